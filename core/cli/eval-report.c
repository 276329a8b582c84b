/* eval-report — the results of `graft eval`: a table for people, JSON, and a line for every record. */
#include "base/json.h"
#include "cli/eval.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- all records together ---- */

static void print_interval(char out[48], interval i, const char *format) {
    char low[20], high[20];
    snprintf(low, sizeof low, format, i.low);
    snprintf(high, sizeof high, format, i.high);
    snprintf(out, 48, "[%s, %s]", low, high);
}

/* "runs/qlora (quant-nf4)"; owned by the caller. */
static char *row_name(const model_scores *m) {
    return m->quantizer ? mem_format("%s (%s)", m->name, m->quantizer) : mem_copy_text(m->name);
}

static void print_score(const char *name, int width, const score *v) {
    char of_value[48], of_change[48];
    print_interval(of_value, v->of_value, "%.4f");
    print_interval(of_change, v->of_change, "%+.4f");
    printf("  %-*s %10.4f  ", width, name, v->value);
    if (v->compared)
        printf("%-22s %+10.4f  %-22s %s\n", of_value, v->change, of_change, v->verdict);
    else
        printf("%s\n", of_value);
}

static void print_table(const scores *s) {
    int width = 30;
    for (int64_t m = 0; m < s->count; m++) {
        char *const name = row_name(&s->models[m]);
        if ((int)strlen(name) > width) width = (int)strlen(name);
        free(name);
    }
    for (int32_t i = 0; i < s->metric_count; i++) {
        char title[80];
        snprintf(title, sizeof title, "%s (%lld record%s)", s->metrics[i]->name, (long long)s->models[0].records[i],
                 plural(s->models[0].records[i]));
        printf("%s%-*s  95 %% interval", i ? "\n" : "", width + 13, title);
        printf(s->count > 1 ? "             change  95 %% interval\n" : "\n");
        for (int64_t m = 0; m < s->count; m++) {
            char *const name = row_name(&s->models[m]);
            const score v = scores_value(s, m, i);
            print_score(name, width, &v);
            free(name);
        }
    }
}

static json_t *interval_json(interval i) {
    return isfinite(i.low) && isfinite(i.high) ? json_pack("[f, f]", i.low, i.high) : json_null();
}

static json_t *number_json(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* {"name": ..., "loss": ..., "intervals": {"loss": [low, high]}, "changes": {"loss": {"change", "interval", "verdict"}}} */
static json_t *model_json(const scores *s, int64_t number) {
    const model_scores *m = &s->models[number];
    json_t *row = json_pack("{s:s, s:s?}", "name", m->name, "quantizer", m->quantizer), *intervals = json_object(),
           *changes = json_object();
    for (int32_t i = 0; i < s->metric_count; i++) {
        const score v = scores_value(s, number, i);
        const char *name = s->metrics[i]->name;
        json_object_set_new(row, name, number_json(v.value));
        json_object_set_new(intervals, name, interval_json(v.of_value));
        if (v.compared)
            json_object_set_new(changes, name,
                                json_pack("{s:o, s:o, s:s}", "change", number_json(v.change), "interval",
                                          interval_json(v.of_change), "verdict", v.verdict));
    }
    json_object_set_new(row, "records", json_integer(s->metric_count ? m->records[0] : 0));
    if (m->targets) json_object_set_new(row, "targets", json_integer(m->targets));
    if (m->tokens) json_object_set_new(row, "tokens", json_integer(m->tokens));
    if (m->written) json_object_set_new(row, "written", json_integer(m->written));
    json_object_set_new(row, "intervals", intervals);
    if (number)
        json_object_set_new(row, "changes", changes);
    else
        json_decref(changes);
    return row;
}

void eval_print(const scores *s, int json) {
    if (!json) {
        print_table(s);
        return;
    }
    json_t *list = json_array();
    for (int64_t m = 0; m < s->count; m++)
        json_array_append_new(list, model_json(s, m));
    cli_print_json(list);
}

/* ---- record by record ---- */

/* The metrics of one source, of one record. */
static json_t *record_scores(const scores *s, int64_t number, metric_source from, int64_t record) {
    json_t *out = json_object();
    for (int32_t i = 0; i < s->metric_count; i++) {
        const metric *m = s->metrics[i];
        if (m->source == from)
            json_object_set_new(
                out, m->name,
                number_json(metric_of_record(m, s->models[number].statistics[i] + record * m->statistics)));
    }
    return out;
}

static int write_line(const evaluating *e, json_t *row, graft_error *err) {
    char *text = json_dumps(row, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (text && file_put(e->output, text, (int64_t)strlen(text), err) == GRAFT_OK) file_put(e->output, "\n", 1, err);
    free(text);
    json_decref(row);
    return err->code;
}

int eval_write_answers(const evaluating *e, int64_t number, int64_t records, answer_of *next, void *context,
                       graft_error *err) {
    for (int64_t i = 0; e->output && i < records && !err->code; i++) {
        const metric_record r = next(context, i);
        json_t *references = json_array();
        for (int64_t k = 0; k < r.count; k++)
            json_array_append_new(references, json_stringn(r.references[k].text, (size_t)r.references[k].length));
        write_line(e,
                   json_pack("{s:s, s:I, s:s*, s:s%, s:o, s:o}", "model", e->scores->models[number].name, "record",
                             (json_int_t)i, "prompt", r.prompt, "prediction", r.prediction.text,
                             (size_t)r.prediction.length, "references", references, "scores",
                             record_scores(e->scores, number, METRIC_OF_TEXT, i)),
                   err);
    }
    return err->code;
}

int eval_write_choices(const evaluating *e, int64_t number, const double *each, const question_list *questions,
                       graft_error *err) {
    for (int64_t i = 0; e->output && i < questions->count && !err->code; i++) {
        const question *q = &questions->at[i];
        json_t *sums = json_array();
        for (int64_t c = 0; c < q->count; c++)
            json_array_append_new(sums, number_json(-each[2 * (q->first + c)]));
        write_line(e,
                   json_pack("{s:s, s:I, s:o, s:I, s:o}", "model", e->scores->models[number].name, "record",
                             (json_int_t)i, "loglikelihoods", sums, "right", (json_int_t)q->right, "scores",
                             record_scores(e->scores, number, METRIC_OF_CHOICE, i)),
                   err);
    }
    return err->code;
}
