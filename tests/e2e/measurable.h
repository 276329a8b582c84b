/* measurable — whether a process's memory can be measured in this build. */
#ifndef GRAFT_TESTS_MEASURABLE_H
#define GRAFT_TESTS_MEASURABLE_H

/* Sanitizers keep what was released. */
static inline int is_measurable(void) {
#if defined(__SANITIZE_ADDRESS__)
    return 0;
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
    return 0;
#    endif
#endif
    return 1;
}

#endif
