/* metrics — lines of metrics.jsonl. */
#include "run/metrics.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_LIMIT = 1 << 30 };

struct metrics {
    char *path;
    FILE *file;
};

/* The step of a line, 0: it is none. */
static int64_t step_of(const char *line, size_t length) {
    json_t *json = NULL;
    graft_error ignored = {0};
    int64_t step = 0;
    if (json_read_text(line, length, "line", 0, &json, &ignored) ||
        json_get_int(json, "line", "step", 0, &step, &ignored))
        step = 0;
    json_decref(json);
    return step;
}

/* The lines of steps 1 to `last`, in order and each once. What a crash cut off and what nobody wrote is left out. */
static void keep_lines(const char *text, int64_t size, int64_t last, strbuf *out, int64_t *count) {
    int64_t before = 0;
    for (const char *line = text, *end; line < text + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        end = end ? end : text + size;
        const int64_t step = step_of(line, (size_t)(end - line));
        if (step <= before || step > last) continue;
        strbuf_add(out, line, (size_t)(end - line));
        strbuf_puts(out, "\n");
        before = step;
        ++*count;
    }
}

int metrics_open(const char *folder, int64_t step, metrics **out, graft_error *err) {
    metrics *const m = mem_new(1, sizeof *m);
    char *text = NULL;
    strbuf kept = {0};
    int64_t size = 0, count = 0;
    *out = NULL;
    m->path = path_join(folder, "metrics.jsonl");
    if (step > 0 && file_exists(m->path) && file_read(m->path, FILE_LIMIT, &text, &size, err)) goto done;
    if (text) keep_lines(text, size, step, &kept, &count);
    if (count < step)
        log_info("%s %s: it has no line for %lld of the first %lld steps, and goes on behind them", m->path,
                 text ? "was cut or changed" : "was removed", (long long)(step - count), (long long)step);
    if (file_write(m->path, kept.text ? kept.text : "", (int64_t)kept.length, err)) goto done;
    m->file = fopen(m->path, "a");
    if (!m->file) fail(err, GRAFT_FAILED, "cannot write %s: %s", m->path, strerror(errno));
done:
    free(text);
    strbuf_free(&kept);
    *out = m;
    if (err->code) {
        *out = NULL;
        free(m->path);
        free(m);
    }
    return err->code;
}

static void put_number(strbuf *line, const char *key, double value) {
    if (isfinite(value))
        strbuf_printf(line, ", \"%s\": %.9g", key, value);
    else
        strbuf_printf(line, ", \"%s\": null", key);
}

int metrics_add(metrics *m, const metrics_line *l, graft_error *err) {
    strbuf line = {0};
    strbuf_printf(&line, "{\"step\": %lld", (long long)l->step);
    put_number(&line, "loss", l->loss);
    put_number(&line, "grad_norm", l->grad_norm);
    put_number(&line, "lr", l->lr);
    strbuf_printf(&line, ", \"tokens\": %lld", (long long)l->tokens);
    if (l->masked) put_number(&line, "sparsity", l->sparsity);
    if (l->skipped) strbuf_puts(&line, ", \"skipped\": true");
    if (l->evaluated) put_number(&line, "eval_loss", l->eval_loss);
    strbuf_puts(&line, "}\n");
    if (fwrite(line.text, 1, line.length, m->file) != line.length || fflush(m->file) != 0)
        fail(err, GRAFT_FAILED, "cannot write %s: %s", m->path, strerror(errno));
    strbuf_free(&line);
    return err->code;
}

int metrics_sync(metrics *m, graft_error *err) {
    if (fsync(fileno(m->file)) == 0 || errno == EINVAL) return GRAFT_OK;
    return fail(err, GRAFT_FAILED, "cannot write %s: %s", m->path, strerror(errno));
}

int metrics_close(metrics *m, graft_error *err) {
    if (!m) return GRAFT_OK;
    metrics_sync(m, err);
    if (fclose(m->file) != 0) fail(err, GRAFT_FAILED, "cannot write %s: %s", m->path, strerror(errno));
    free(m->path);
    free(m);
    return err->code;
}
