/* Texts as the sequences of a run: order, epochs, packing, validation, digests; and the data of the fixtures from end to end. */
#include "base/file.h"
#include "run/data-text.h"
#include "run/slices.h"
#include "text-kit.h"
#include "text/tokenizer.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MODEL SOURCE_DIR "/examples/quickstart/model" /* a token a byte, 256 the end */

TestSuite(data, .init = kit_begin, .fini = kit_end);

/* ---- opening ---- */

typedef struct {
    registry *plugins;
    recipe *recipe;
    data_source *data;
    graft_error err;
} opened;

static opened open_with(const char *folder, const char *path, const char *settings) {
    opened o = {.plugins = registry_create()};
    char *const ini = mem_format("[data]\npath = %s\n%s\n", path, settings);
    recipe_load(o.plugins, kit_file("run.ini", ini, -1), NULL, 0, 0, &o.recipe, NULL, &o.err);
    if (o.recipe) data_text_open(o.recipe, folder, &o.data, &o.err);
    free(ini);
    return o;
}

static opened open_good(const char *path, const char *settings) {
    const opened o = open_with(MODEL, path, settings);
    cr_assert_not_null(o.data, "%s", o.err.text);
    return o;
}

static void close_all(opened *o) {
    if (o->data) o->data->close(o->data);
    recipe_free(o->recipe);
    registry_free(o->plugins);
}

/* A file of `count` records "<number>xxxx" of 4 to 43 bytes. */
static const char *make_file(const char *name, int count) {
    strbuf b = {0};
    for (int i = 0; i < count; i++)
        strbuf_printf(&b, "%03d%.*s\n\n", i, 1 + i * 17 % 40, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    const char *const path = kit_file(name, b.text, (int64_t)b.length);
    strbuf_free(&b);
    return path;
}

/* ---- looking at steps ---- */

static int number_of(const int32_t *ids) {
    return (ids[0] - '0') * 100 + (ids[1] - '0') * 10 + ids[2] - '0';
}

/* Adds the numbers of the documents of a list to `numbers`; returns how many. */
static int add_numbers(const sequence_list *list, int *numbers, int count) {
    for (int64_t s = 0; s < list->count; s++)
        for (int64_t t = 0; t < list->at[s].tokens; t++) {
            const sequence *const q = &list->at[s];
            if (t == 0 || (q->documents && q->documents[t] != q->documents[t - 1]))
                numbers[count++] = number_of(q->ids + t);
        }
    return count;
}

static int read_steps(data_source *d, int64_t first, int64_t steps, int *numbers) {
    int count = 0;
    for (int64_t s = first; s < first + steps; s++) {
        sequence_list list = {0};
        graft_error err = {0};
        cr_assert_eq(d->fetch(d, s, &list, &err), 0, "%s", err.text);
        int64_t tokens = 0;
        for (int64_t i = 0; i < list.count; i++) {
            tokens += list.at[i].tokens;
            cr_assert_leq(list.at[i].tokens, d->longest);
        }
        cr_assert_leq(tokens, d->step_tokens);
        count = add_numbers(&list, numbers, count);
        sequence_list_free(&list);
    }
    return count;
}

static int read_eval(data_source *d, int *numbers) {
    sequence_list list = {0};
    graft_error err = {0};
    cr_assert_eq(d->fetch_eval(d, 0, d->eval_count, &list, &err), 0, "%s", err.text);
    const int count = add_numbers(&list, numbers, 0);
    sequence_list_free(&list);
    return count;
}

static int compare(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Whether `numbers` are 0 .. count - 1, each once. */
static int is_complete(const int *numbers, int count) {
    int sorted[1000], good = 1;
    memcpy(sorted, numbers, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    for (int i = 0; i < count; i++)
        good &= sorted[i] == i;
    return good;
}

#define TEXT "loader = text\n"

/* ---- memory ---- */

#if defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define KEEPS_FREED_MEMORY 1
#    endif
#endif

/* The most memory of the process so far, in bytes. */
static int64_t peak_memory(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (int64_t)r.ru_maxrss * 1024;
}

/* A file of 64 MB; `record` has a place for the number. */
static const char *make_large(const char *name, const char *head, const char *record) {
    const char *const path = kit_file(name, head, -1);
    FILE *const f = fopen(path, "a");
    for (int64_t size = 0, i = 0; size < 64 << 20; i++)
        size += fprintf(f, record, (long long)i);
    cr_assert_eq(fclose(f), 0);
    return path;
}

#define SENTENCE "a morning of rain, and then a light in the window of the house beneath the mill; "
#define FOUR     SENTENCE SENTENCE SENTENCE SENTENCE
#define TEXT_2KB FOUR FOUR FOUR FOUR FOUR FOUR

Test(data, a_large_file_takes_memory_for_its_index_alone, .timeout = 300) {
#ifdef KEEPS_FREED_MEMORY
    cr_skip_test("the sanitizer keeps what was freed");
#endif
    static const struct {
        const char *name, *head, *record;
    } files[] = {
        {"large.jsonl", "",                         "{\"prompt\": \"%lld\", \"completion\": \"" TEXT_2KB "\"}\n"},
        {"large.csv",   "prompt,completion,note\n", "%lld,\"" TEXT_2KB "\",\n"                                  },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *const path = make_large(files[i].name, files[i].head, files[i].record);
        opened o = open_good(make_file("a.txt", 5), TEXT);
        close_all(&o); /* the model and the libraries are there now */
        const int64_t before = peak_memory();
        o = open_good(path, "max_length = 256\n[train]\nbatch_size = 2");
        sequence_list list = {0};
        graft_error err = {0};
        for (int64_t step = 0; step < 1000; step++) {
            cr_assert_eq(o.data->fetch(o.data, step * 7919, &list, &err), 0, "%s", err.text);
            sequence_list_free(&list);
        }
        cr_expect_gt(o.data->steps_per_epoch, 10000);
        cr_expect_lt(peak_memory() - before, 12 << 20, "%s: %lld", files[i].name, (long long)(peak_memory() - before));
        close_all(&o);
    }
}

/* ---- order ---- */

Test(data, every_epoch_has_every_record_once_in_an_order_of_its_own) {
    opened o = open_good(make_file("a.txt", 103), TEXT "[train]\nbatch_size = 5\naccumulate = 2");
    int first[200], second[200];
    cr_assert_eq(o.data->steps_per_epoch, 11); /* the last one has 3 */
    cr_assert_eq(read_steps(o.data, 0, 11, first), 103);
    cr_assert_eq(read_steps(o.data, 11, 11, second), 103);
    cr_expect(is_complete(first, 103) && is_complete(second, 103));
    cr_expect(memcmp(first, second, 103 * sizeof *first) != 0);
    cr_expect_eq(read_steps(o.data, 10, 1, first), 3);
    cr_expect_eq(o.data->steps_limit, 0);
    close_all(&o);
}

/* ---- several files ---- */

/* Three files of one set, named by the hundreds: 0 .. 59, 200 .. 209, 300 .. 329. */
static char *make_three(void) {
    static const int begin[] = {0, 200, 300}, count[] = {60, 10, 30};
    const char *path[3];
    for (int f = 0; f < 3; f++) {
        strbuf b = {0};
        char name[20];
        for (int i = 0; i < count[f]; i++)
            strbuf_printf(&b, "{\"text\": \"%03d%.*s\"}\n", begin[f] + i, 1 + i % 20, "xxxxxxxxxxxxxxxxxxxxxxxxx");
        snprintf(name, sizeof name, "%d.jsonl", f);
        path[f] = kit_file(name, b.text, (int64_t)b.length);
        strbuf_free(&b);
    }
    return mem_format("%s, %s,%s", path[0], path[1], path[2]);
}

static void count_files(const int *numbers, int count, int of_file[3]) {
    memset(of_file, 0, 3 * sizeof *of_file);
    for (int i = 0; i < count; i++)
        of_file[numbers[i] < 200 ? 0 : numbers[i] < 300 ? 1 : 2]++;
}

Test(data, several_files_are_one_set_and_weights_are_their_shares) {
    static const char *const settings[] = {"", "weights = 1, 2, 1\n", "packing = yes\nmax_length = 60\n"};
    static const int wanted[][3] = {
        {60, 10, 30},
        {25, 50, 25},
        {60, 10, 30}
    };
    char *const paths = make_three();
    for (int i = 0; i < 3; i++) {
        char *const all = mem_format("%s[train]\nbatch_size = 10\n", settings[i]);
        opened o = open_good(paths, all), again = open_good(paths, all);
        int numbers[300], other[300], of_file[3];
        const int count = read_steps(o.data, 0, o.data->steps_per_epoch, numbers);
        count_files(numbers, count, of_file);
        for (int f = 0; f < 3; f++)
            cr_expect_eq(of_file[f], wanted[i][f], "%s file %d: %d", settings[i], f, of_file[f]);
        const int64_t late = 3 * o.data->steps_per_epoch + 1; /* as a resumed run begins */
        const int n = read_steps(o.data, late, 2, numbers);
        cr_expect_eq(read_steps(again.data, late, 2, other), n);
        cr_expect_arr_eq(numbers, other, (size_t)n * sizeof *numbers);
        close_all(&o), close_all(&again);
        free(all);
    }
    free(paths);
}

Test(data, each_file_keeps_its_own_share_for_validation) {
    char *const paths = make_three();
    opened o = open_good(paths, "eval_split = 0.1\n[train]\nbatch_size = 10");
    int numbers[300], of_file[3];
    count_files(numbers, read_eval(o.data, numbers), of_file);
    cr_expect(of_file[0] == 6 && of_file[1] == 1 && of_file[2] == 3);
    const int count = read_steps(o.data, 0, o.data->steps_per_epoch, numbers);
    count_files(numbers, count, of_file);
    cr_expect(of_file[0] == 54 && of_file[1] == 9 && of_file[2] == 27);
    close_all(&o);
    char *const own = mem_format("eval_path = %s\n", paths);
    o = open_good(paths, own);
    cr_expect_eq(o.data->eval_count, 100);
    close_all(&o);
    free(own);
    free(paths);
}

Test(data, what_weights_and_grouping_cannot_mean_is_refused) {
    static const struct {
        const char *settings, *wanted;
    } cases[] = {
        {"weights = 1, 2",                       "[data] weights has one number above 0"},
        {"weights = 1, 0, 1",                    "[data] weights has one number above 0"},
        {"weights = 1, x, 1",                    "[data] weights has one number above 0"},
        {"group_by_length = yes\npacking = yes", "stands beside packing"                },
        {"group_by_length = yes\nshuffle = no",  "needs shuffle = yes"                  },
    };
    char *const paths = make_three();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o = open_with(MODEL, paths, cases[i].settings);
        cr_assert_null(o.data);
        cr_expect_not_null(strstr(o.err.text, cases[i].wanted), "%s", o.err.text);
        close_all(&o);
    }
    free(paths);
}

Test(data, grouped_steps_are_resumed_exactly) {
    char *const paths = make_three();
    static const char settings[] = "group_by_length = yes\n[train]\nbatch_size = 4\naccumulate = 2";
    opened o = open_good(paths, settings), again = open_good(paths, settings);
    int one[300], two[300];
    cr_assert_eq(read_steps(o.data, 0, o.data->steps_per_epoch, one), 100);
    cr_assert_eq(read_steps(again.data, 20, 3, two), read_steps(o.data, 20, 3, one));
    cr_expect_arr_eq(one, two, 20 * sizeof *one);
    close_all(&o), close_all(&again);
    free(paths);
}

/* ---- order ---- */

Test(data, a_step_is_the_same_whatever_was_fetched_before) {
    const char *const path = make_file("a.txt", 50);
    static const char settings[] = TEXT "packing = yes\nmax_length = 64\n[train]\nbatch_size = 3\nseed = 7";
    opened o = open_good(path, settings), again = open_good(path, settings);
    for (int64_t s = 0; s < 40; s++) {
        const int64_t step = s * 29 % 40;
        int one[200], two[200];
        const int n = read_steps(o.data, step, 1, one);
        read_steps(again.data, 3, 1, two);
        cr_assert_eq(read_steps(again.data, step, 1, two), n);
        cr_expect(memcmp(one, two, (size_t)n * sizeof *one) == 0);
    }
    close_all(&o), close_all(&again);
}

Test(data, the_seed_decides_the_order_and_no_shuffle_is_the_order_of_the_file) {
    const char *const path = make_file("a.txt", 60);
    int order[3][60];
    static const char *const settings[] = {TEXT "[train]\nseed = 1", TEXT "[train]\nseed = 2", TEXT "shuffle = no"};
    for (int i = 0; i < 3; i++) {
        opened o = open_good(path, settings[i]);
        cr_assert_eq(read_steps(o.data, 0, o.data->steps_per_epoch, order[i]), 60);
        close_all(&o);
    }
    cr_expect(memcmp(order[0], order[1], sizeof order[0]) != 0);
    for (int i = 0; i < 60; i++)
        cr_expect_eq(order[2][i], i);
}

Test(data, the_longest_step_is_known_exactly) {
    opened o = open_good(make_file("a.txt", 40), TEXT "[train]\nbatch_size = 40");
    int numbers[200];
    cr_assert_eq(o.data->longest, 44); /* 3 digits, 40 letters, the end */
    int64_t tokens = 0;
    for (int i = 0; i < 40; i++)
        tokens += 3 + 1 + i * 17 % 40 + 1;
    cr_expect_eq(o.data->step_tokens, tokens);
    cr_expect_eq(read_steps(o.data, 0, 1, numbers), 40);
    close_all(&o);
}

/* ---- packing ---- */

/* The documents of all slices of a list as text "ids positions targets", sorted. */
static int compare_texts(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *describe(data_source *d) {
    char *lines[400];
    int count = 0;
    strbuf all = {0};
    for (int64_t s = 0; s < d->steps_per_epoch; s++) {
        sequence_list list = {0};
        slice_list slices = {0};
        graft_error err = {0};
        cr_assert_eq(d->fetch(d, s, &list, &err), 0);
        cr_assert_eq(slices_cut(&list, &(slice_limits){.vocab = 258, .rows = 300}, &slices, &err), 0, "%s", err.text);
        for (int64_t i = 0; i < slices.count; i++)
            for (int64_t doc = 0; doc < slices.at[i].documents; doc++) {
                const model_rows *const r = &slices.at[i];
                strbuf line = {0};
                for (int64_t t = r->start[doc]; t < r->start[doc + 1]; t++)
                    strbuf_printf(&line, "%d@%d>%d ", r->ids[t], r->positions[t], r->targets[t]);
                lines[count++] = line.text;
            }
        slices_free(&slices);
        sequence_list_free(&list);
    }
    qsort(lines, (size_t)count, sizeof *lines, compare_texts);
    for (int i = 0; i < count; i++) {
        strbuf_puts(&all, lines[i]);
        strbuf_puts(&all, "\n");
        free(lines[i]);
    }
    return all.text;
}

Test(data, packed_documents_are_computed_as_if_they_were_alone) {
    static const char *const packings[] = {"packing = yes\n", "packing = yes\nshuffle = no\n"};
    const char *const path = make_file("a.txt", 97);
    opened alone = open_good(path, TEXT "max_length = 64");
    char *const wanted = describe(alone.data);
    for (int i = 0; i < 2; i++) {
        char *const settings = mem_format("%s%smax_length = 64", TEXT, packings[i]);
        opened packed = open_good(path, settings);
        cr_expect_lt(packed.data->steps_per_epoch, alone.data->steps_per_epoch);
        cr_expect_leq(packed.data->longest, 64);
        char *const got = describe(packed.data);
        cr_expect_str_eq(got, wanted);
        free(got);
        free(settings);
        close_all(&packed);
    }
    free(wanted);
    close_all(&alone);
}

Test(data, packing_without_shuffle_keeps_the_order_of_the_file) {
    opened o = open_good(make_file("a.txt", 97), TEXT "packing = yes\nshuffle = no\nmax_length = 64");
    int numbers[200];
    cr_assert_eq(read_steps(o.data, 0, o.data->steps_per_epoch, numbers), 97);
    for (int i = 0; i < 97; i++)
        cr_expect_eq(numbers[i], i);
    close_all(&o);
}

/* ---- cutting ---- */

Test(data, a_text_is_split_into_pieces_that_join_to_the_text) {
    strbuf b = {0};
    for (int i = 0; i < 300; i++)
        strbuf_printf(&b, "%03d,", i);
    opened o = open_good(kit_file("a.txt", b.text, -1), TEXT
                         "split = file\ntruncation = split\nmax_length = 50\nshuffle = no\n[train]\nbatch_size = 4");
    cr_assert_eq(o.data->steps_per_epoch, 6); /* 24 pieces; a 25th has the end alone: no target */
    int64_t at = 0;
    for (int64_t s = 0; s < 6; s++) {
        sequence_list list = {0};
        cr_assert_eq(o.data->fetch(o.data, s, &list, &o.err), 0, "%s", o.err.text);
        for (int64_t i = 0; i < list.count; i++)
            for (int64_t t = 0; t < list.at[i].tokens; t++, at++) {
                cr_assert_eq(list.at[i].ids[t], b.text[at]);
                cr_assert_eq(list.at[i].labels[t], list.at[i].ids[t]);
            }
        sequence_list_free(&list);
    }
    cr_expect_eq(at, 1200);
    strbuf_free(&b);
    close_all(&o);
}

/* ---- validation ---- */

Test(data, a_split_takes_whole_records_out_of_the_training_set) {
    const char *const path = make_file("a.txt", 100);
    int eval[2][100], all[200];
    for (int i = 0; i < 2; i++) {
        char *const settings = mem_format("%seval_split = 0.13\n[train]\nseed = %d", TEXT, i);
        opened o = open_good(path, settings);
        cr_assert_eq(o.data->eval_count, 13);
        cr_assert_eq(read_eval(o.data, eval[i]), 13);
        memcpy(all, eval[i], 13 * sizeof *all);
        cr_assert_eq(read_steps(o.data, 0, o.data->steps_per_epoch, all + 13), 87);
        cr_expect(is_complete(all, 100));
        free(settings);
        close_all(&o);
    }
    cr_expect(memcmp(eval[0], eval[1], 13 * sizeof *all) != 0, "the seed draws the records");
}

Test(data, pieces_of_one_record_are_on_one_side) {
    opened o = open_good(make_file("a.txt", 60), TEXT "eval_split = 0.3\ntruncation = split\nmax_length = 9");
    sequence_list list = {0};
    int begun = 0;
    cr_assert_eq(o.data->fetch_eval(o.data, 0, o.data->eval_count, &list, &o.err), 0);
    for (int64_t i = 0; i < list.count; i++)
        begun += list.at[i].ids[0] >= '0' && list.at[i].ids[0] <= '9';
    cr_expect_eq(begun, 18);
    cr_expect_gt(o.data->eval_count, 18);
    sequence_list_free(&list);
    close_all(&o);
}

Test(data, another_file_is_validated_on_in_its_order) {
    char *const settings = mem_format("%seval_path = %s\npacking = yes", TEXT, make_file("b.txt", 20));
    opened o = open_good(make_file("a.txt", 50), settings);
    int numbers[100];
    cr_assert_eq(o.data->eval_count, 20);
    cr_assert_eq(read_eval(o.data, numbers), 20);
    for (int i = 0; i < 20; i++)
        cr_expect_eq(numbers[i], i);
    sequence_list list = {0};
    cr_expect_eq(o.data->fetch_eval(o.data, 15, 6, &list, &o.err), GRAFT_FAILED);
    sequence_list_free(&list);
    free(settings);
    close_all(&o);
}

/* ---- digests and errors ---- */

static void digest_of(const char *path, const char *settings, char hex[65]) {
    opened o = open_good(path, settings);
    cr_assert_eq(o.data->digest(o.data, hex, &o.err), 0);
    close_all(&o);
}

Test(data, the_digest_is_that_of_the_text) {
    char one[65], other[65];
    digest_of(kit_file("a.txt", "a b\n\nc d", -1), TEXT, one);
    digest_of(kit_gzip("a.gz", "a b\n\nc d", 8), TEXT, other);
    cr_expect_str_eq(one, other);
    digest_of(kit_file("a.txt", "a b\n\nc e", -1), TEXT, other);
    cr_expect_str_neq(one, other);
    char *const settings = mem_format("%seval_path = %s", TEXT, kit_path("a.txt"));
    digest_of(kit_file("b.txt", "a b\n\nc d", -1), settings, other);
    cr_expect_str_neq(one, other);
    free(settings);
}

static void expect_error(const char *path, const char *settings, const char *wanted) {
    opened o = open_with(MODEL, path, settings);
    cr_expect_null(o.data);
    cr_expect_not_null(strstr(o.err.text, wanted), "%s", o.err.text);
    close_all(&o);
}

Test(data, what_cannot_be_trained_on_is_an_error) {
    const char *const path = kit_file("a.jsonl", "{\"prompt\": \"abc\", \"completion\": \"d\"}\n", -1);
    expect_error(kit_path("none.jsonl"), "", "none.jsonl: No such file");
    expect_error(path, "max_length = 3", "no record is left to train on; ");
    expect_error(path, "max_length = 3",
                 "1 of 1 records dropped: 1 whose targets lie beyond max_length (max_length = 3)");
    expect_error(path, "eval_split = 0.5", "eval_split needs two records at least");
    expect_error(path, "loader = text\nsplit = file\neval_path = /dev/null", "/dev/null holds no records");
    char *const none =
        mem_format("eval_path = %s", kit_file("b.jsonl", "{\"prompt\": \"a\", \"completion\": \"\"}", -1));
    expect_error(path, none, "no record is left to validate on; ");
    free(none);
}

Test(data, a_record_that_changes_while_in_use_is_an_error) {
    const char *const path = kit_file("a.txt", "one\n\ntwo2\n\nthree", -1);
    opened o = open_good(path, TEXT "shuffle = no\n[train]\nbatch_size = 1");
    FILE *const to = fopen(path, "r+");
    fputs("one\n\nt o ", to);
    fclose(to);
    sequence_list list = {0};
    cr_expect_eq(o.data->fetch(o.data, 0, &list, &o.err), 0);
    sequence_list_free(&list);
    cr_expect_eq(o.data->fetch(o.data, 1, &list, &o.err), GRAFT_FAILED);
    cr_expect_not_null(strstr(o.err.text, "a.txt was changed while it is in use"), "%s", o.err.text);
    sequence_list_free(&list);
    close_all(&o);
}

/* ---- real data ---- */

static char *need(const char *name) {
    char *const path = mem_format("%s/%s", SHARED_DIR, name);
    if (file_exists(path)) return path;
    fprintf(stderr, "skipped: %s is not there\n", path);
    free(path);
    cr_skip_test();
}

typedef struct {
    int64_t documents, tokens, targets, begun, ended;
} totals;

/* One epoch: every document begins with <s> (1), and what is whole ends with </s> (2), which is a target. */
static totals read_epoch(data_source *d) {
    totals t = {0};
    for (int64_t s = 0; s < d->steps_per_epoch; s++) {
        sequence_list list = {0};
        graft_error err = {0};
        cr_assert_eq(d->fetch(d, s, &list, &err), 0, "%s", err.text);
        for (int64_t i = 0; i < list.count; i++) {
            const sequence *const q = &list.at[i];
            for (int64_t k = 0; k < q->tokens; k++) {
                const int begins = k == 0 || (q->documents && q->documents[k] != q->documents[k - 1]);
                t.documents += begins;
                t.begun += begins && q->ids[k] == 1 && q->labels[k] == LABEL_NONE;
                t.ended += q->ids[k] == 2 && q->labels[k] == 2;
                t.targets += !begins && q->labels[k] != LABEL_NONE;
                cr_assert(q->ids[k] >= 0 && q->ids[k] < 512);
            }
            t.tokens += q->tokens;
        }
        sequence_list_free(&list);
    }
    return t;
}

static opened open_real(const char *file, const char *settings) {
    char *const folder = need("models/stories260k"), *const path = need(file);
    const opened o = open_with(folder, path, settings);
    cr_assert_not_null(o.data, "%s", o.err.text);
    free(folder);
    free(path);
    return o;
}

Test(data, the_instructions_of_the_fixtures_are_read_from_end_to_end) {
    static const char *const packings[] = {"no", "yes"};
    totals t[2];
    for (int i = 0; i < 2; i++) {
        char *const settings = mem_format("max_length = 512\npacking = %s\neval_split = 0.1", packings[i]);
        opened o = open_real("data/instructions-1100.json", settings);
        t[i] = read_epoch(o.data);
        cr_expect_eq(o.data->eval_count, 110);
        cr_expect_eq(t[i].documents, 990);
        cr_expect_eq(t[i].begun, 990);
        cr_expect_eq(t[i].ended, 990);
        free(settings);
        close_all(&o);
    }
    cr_expect(t[0].tokens == t[1].tokens && t[0].targets == t[1].targets, "packing changes what is trained on");
}

Test(data, the_questions_of_the_fixtures_are_read_by_their_own_names) {
    opened o = open_real("data/gsm8k-train-1000.jsonl",
                         "prompt = question\ncompletion = answer\nseparator = \\n\nmax_length = 2048\npacking = yes");
    const totals t = read_epoch(o.data);
    cr_expect(t.documents == 1000 && t.begun == 1000 && t.ended == 1000);
    cr_expect_lt(t.targets, t.tokens / 2 + t.tokens / 4);
    close_all(&o);
}

Test(data, the_plays_of_the_fixtures_are_read_as_paragraphs_and_as_one_text) {
    opened o =
        open_real("data/tinyshakespeare.txt", "loader = text\nmax_length = 256\npacking = yes\ntruncation = split");
    const totals t = read_epoch(o.data);
    cr_expect_eq(t.ended, 7222); /* paragraphs */
    cr_expect_eq(t.begun, t.documents);
    close_all(&o);
    o = open_real("data/tinyshakespeare.txt", "loader = text\nsplit = file\nmax_length = 256\ntruncation = split");
    const totals w = read_epoch(o.data);
    cr_expect_eq(w.ended, 1);
    cr_expect_eq(w.targets, w.tokens - w.documents, "all but the tokens in front are targets");
    close_all(&o);
}
