/* quote — JSON strings; only quotes, backslashes and control characters must be escaped, the rest is style. */
#include "formats/quote.h"
#include <string.h>

/* Reads one character of valid UTF-8 and moves on. */
static uint32_t next_character(const unsigned char **p) {
    const unsigned char first = *(*p)++;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
    uint32_t c = more ? first & (0x3fu >> more) : first;
    for (int i = 0; i < more && (**p & 0xc0) == 0x80; i++)
        c = c << 6 | (*(*p)++ & 0x3fu);
    return c;
}

void quote_add(strbuf *out, const char *text, int ascii) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    strbuf_puts(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const unsigned char *const start = p;
        const uint32_t c = next_character(&p);
        const char *const short_form = c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (short_form)
            strbuf_printf(out, "\\%c", letters[short_form - plain]);
        else if (c >= 0x10000 && ascii)
            strbuf_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        else if (c < 0x20 || (c >= 0x7f && ascii))
            strbuf_printf(out, "\\u%04x", c);
        else
            strbuf_add(out, (const char *)start, (size_t)(p - start));
    }
    strbuf_puts(out, "\"");
}
