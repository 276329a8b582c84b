/* error — the text of a failure, and the nearest valid name for a mistyped one. */
#include "base/error.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Shows that `text` was cut at `capacity`, without leaving half of a UTF-8 character. */
static void mark_cut(char *text, size_t capacity) {
    size_t end = capacity - 4;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, "...", 4);
}

int fail(graft_error *err, int code, const char *format, ...) {
    if (!err) return code;
    if (err->code != GRAFT_OK) return err->code;
    va_list args;
    va_start(args, format);
    const int wanted = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (wanted >= (int)sizeof err->text) mark_cut(err->text, sizeof err->text);
    return err->code = code;
}

int fail_within(graft_error *err, const char *format, ...) {
    if (!err) return GRAFT_FAILED;
    if (err->code == GRAFT_OK) return GRAFT_OK;
    char context[sizeof err->text], joined[2 * sizeof err->text + 2];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    const int wanted = snprintf(joined, sizeof joined, "%s: %s", context, err->text);
    memcpy(err->text, joined, sizeof err->text);
    if (wanted >= (int)sizeof err->text) mark_cut(err->text, sizeof err->text);
    return err->code;
}

enum { NAME_LIMIT = 64 };

/* Case, '-' and '_' are what people mix up without noticing. */
static int plain_letter(char c) {
    return c == '-' ? '_' : tolower((unsigned char)c);
}

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b (optimal string alignment). */
static int edit_distance(const char *a, const char *b) {
    const int na = (int)strlen(a), nb = (int)strlen(b);
    int rows[3][NAME_LIMIT + 1], *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= nb; j++)
        last[j] = before[j] = j;
    for (int i = 1; i <= na; i++) {
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int x = plain_letter(a[i - 1]), y = plain_letter(b[j - 1]);
            int best = last[j - 1] + (x != y);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && x == plain_letter(b[j - 2]) && y == plain_letter(a[i - 2]) &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        int *const oldest = before;
        before = last, last = row, row = oldest;
    }
    return last[nb];
}

const char *nearest_name(const char *word, const char *const *names, int count) {
    const size_t length = strlen(word);
    if (length > NAME_LIMIT) return NULL;
    const char *best = NULL;
    int least = (int)(length + 3) / 3; /* one slip in three letters still looks like the word */
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) > NAME_LIMIT) continue;
        const int distance = edit_distance(word, names[i]);
        if (distance < least || (distance == least && !best)) least = distance, best = names[i];
    }
    return best && least < (int)length ? best : NULL;
}

const char *plural(int64_t count) {
    return count == 1 ? "" : "s";
}
