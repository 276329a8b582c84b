/* log — messages for people, one at a time, on stderr. */
#include "base/log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int level = LOG_INFO; /* one setting of the process: how much its user wants to read */

void log_level_set(int wanted) {
    atomic_store(&level, wanted);
}

__attribute__((format(printf, 3, 0))) static void print(int least, const char *kind, const char *format, va_list args) {
    if (atomic_load(&level) < least) return;
    flockfile(stderr);
    fputs(kind, stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    funlockfile(stderr);
}

#define LOG_FUNCTION(name, least, kind)                                                                                \
    void name(const char *format, ...) {                                                                               \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        print(least, kind, format, args);                                                                              \
        va_end(args);                                                                                                  \
    }
LOG_FUNCTION(log_info, LOG_INFO, "")
LOG_FUNCTION(log_warn, LOG_WARN, "warning: ")
LOG_FUNCTION(log_error, LOG_QUIET, "error: ")
LOG_FUNCTION(log_debug, LOG_DEBUG, "debug: ")
