/* metrics — lines of metrics.jsonl. */
#include "run/metrics.h"
#include "base/file.h"
#include "base/json.h"
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

/* The lines of steps up to `step`: reading ends at the first that is none, which a crash may have cut. */
static int64_t kept_bytes(const char *text, int64_t size, int64_t step) {
    int64_t kept = 0;
    while (kept < size) {
        const char *const end = memchr(text + kept, '\n', (size_t)(size - kept));
        if (!end) break;
        json_t *line = NULL;
        graft_error ignored = {0};
        int64_t number = 0;
        if (json_read_text(text + kept, (size_t)(end - text - kept), "line", 0, &line, &ignored) ||
            json_get_int(line, "line", "step", 0, &number, &ignored))
            number = 0;
        json_decref(line);
        if (number < 1 || number > step) break;
        kept = end + 1 - text;
    }
    return kept;
}

int metrics_open(const char *folder, int64_t step, metrics **out, graft_error *err) {
    metrics *const m = mem_new(1, sizeof *m);
    char *text = NULL;
    int64_t size = 0;
    *out = NULL;
    m->path = path_join(folder, "metrics.jsonl");
    if (step > 0 && file_exists(m->path) && file_read(m->path, FILE_LIMIT, &text, &size, err)) goto done;
    if (file_write(m->path, text ? text : "", text ? kept_bytes(text, size, step) : 0, err)) goto done;
    m->file = fopen(m->path, "a");
    if (!m->file) fail(err, GRAFT_FAILED, "cannot write %s: %s", m->path, strerror(errno));
done:
    free(text);
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
