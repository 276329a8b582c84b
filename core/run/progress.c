/* progress — the bar and the lines. */
#include "run/progress.h"
#include "base/log.h"
#include "base/memory.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH_LEAST = 40, WIDTH_DEFAULT = 80, BAR_LEAST = 8, BAR_MOST = 30 };

struct progress {
    int64_t first, steps, every, tokens;
    double begun, refreshed;
    int bar, color, utf8, shown;
};

double progress_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_duration(double seconds, char text[32]) {
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(text, 32, "?");
        return;
    }
    const long long s = (long long)(seconds + 0.5);
    if (s >= 2 * 86400)
        snprintf(text, 32, "%lld d %lld h", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        snprintf(text, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 32, "%lld:%02lld", s / 60, s % 60);
}

void progress_bytes(int64_t bytes, char text[32]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 999.5 && unit < 4)
        value /= 1000, unit++;
    snprintf(text, 32, unit >= 3 && value < 99.95 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

int64_t progress_peak_memory(void) {
    FILE *const status = fopen("/proc/self/status", "r");
    char line[256];
    long long kib = 0;
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1) break;
    if (status) fclose(status);
    return (int64_t)kib * 1024;
}

static int says_utf8(void) {
    const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (int i = 0; i < 3; i++) {
        const char *const value = getenv(names[i]);
        if (value && *value) return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return 0;
}

progress *progress_begin(int64_t first, int64_t steps, int64_t every, int32_t quiet) {
    if (quiet) return NULL;
    progress *const p = mem_new(1, sizeof *p);
    const char *const term = getenv("TERM"), *const no_color = getenv("NO_COLOR");
    p->first = first, p->steps = steps, p->every = every > 0 ? every : 1;
    p->begun = progress_now();
    p->bar = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    p->color = p->bar && !(no_color && *no_color);
    p->utf8 = says_utf8();
    return p;
}

void progress_clear(progress *p) {
    if (!p || !p->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->shown = 0;
}

void progress_note(progress *p, const char *format, ...) {
    if (!p) return;
    char text[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    progress_clear(p);
    log_info("%s", text);
}

static int terminal_width(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= WIDTH_LEAST ? size.ws_col : WIDTH_DEFAULT;
}

static void put_bar(const progress *p, int64_t step, int width, strbuf *out) {
    const int64_t full = p->steps > 0 ? step * width / p->steps : width;
    if (p->color) strbuf_puts(out, "\033[32m");
    for (int i = 0; i < width; i++) {
        if (p->color && i == full) strbuf_puts(out, "\033[0m\033[2m");
        strbuf_puts(out, i < full ? p->utf8 ? "━" : "#" : p->utf8 ? "─" : ".");
    }
    if (p->color) strbuf_puts(out, "\033[0m");
}

/* One line over the last: as much of the text as fits beside a bar. */
static void draw(progress *p, int64_t step, const char *text) {
    char count[64];
    const int taken = snprintf(count, sizeof count, " %lld/%lld ", (long long)step, (long long)p->steps);
    const int room = terminal_width() - 1 - taken, length = (int)strlen(text);
    int bar = room - length;
    if (bar > BAR_MOST) bar = BAR_MOST;
    if (bar < BAR_LEAST) bar = 0;
    strbuf line = {0};
    strbuf_printf(&line, "\r\033[K%s", count);
    put_bar(p, step, bar, &line);
    strbuf_printf(&line, "%.*s", room - bar, text);
    fwrite(line.text, 1, line.length, stderr);
    fflush(stderr);
    strbuf_free(&line);
    p->shown = 1;
}

void progress_step(progress *p, int64_t step, double loss, double lr, double grad_norm, int64_t tokens) {
    if (!p) return;
    p->tokens += tokens;
    const int last = step >= p->steps, due = (step - p->first) % p->every == 0 || last;
    const double time = progress_now(), taken = time - p->begun;
    if (p->bar ? time - p->refreshed < 0.1 && !last : !due) return;
    p->refreshed = time;
    char eta[32], peak[32], text[256];
    progress_duration(taken / (double)(step - p->first) * (double)(p->steps - step), eta);
    progress_bytes(progress_peak_memory(), peak);
    snprintf(text, sizeof text, "  loss %.4f  lr %.2e  grad %.3g  %.0f tok/s  eta %s  peak %s", loss, lr, grad_norm,
             taken > 0 ? (double)p->tokens / taken : 0.0, eta, peak);
    if (p->bar)
        draw(p, step, text);
    else
        log_info("step %lld/%lld%s", (long long)step, (long long)p->steps, text);
}

void progress_end(progress *p) {
    if (!p) return;
    if (p->shown) fputc('\n', stderr);
    free(p);
}
