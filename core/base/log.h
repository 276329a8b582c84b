/* log — messages for people, on stderr. Results go to stdout and never through here. Thread-safe. */
#ifndef GRAFT_BASE_LOG_H
#define GRAFT_BASE_LOG_H

enum { LOG_QUIET = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

void log_level_set(int level);                                                 /* default LOG_INFO */
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* "text"          */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* "warning: text" */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "error: text"   */
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
