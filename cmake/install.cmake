# What is shipped, as the target `program`, and where `cmake --install` puts it: PREFIX/bin/graft looks for plugins in
# PREFIX/lib/graft, wherever the prefix is moved to. Plugins and program have no RPATH: their libraries are the system's.
include(GNUInstallDirs)
get_property(shipped DIRECTORY ${PROJECT_SOURCE_DIR}/plugins PROPERTY BUILDSYSTEM_TARGETS)
add_custom_target(program DEPENDS graft plugins)

install(TARGETS graft RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${shipped} LIBRARY DESTINATION lib/graft)
install(DIRECTORY include/graft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
