/* utf8 — see utf8.h. The second byte of a character has a narrower range after E0, ED, F0 and F4: that is what excludes
 * overlong forms, surrogates and codes above U+10FFFF. */
#include "text/utf8.h"
#include <string.h>

int utf8_decode(const char *bytes, int64_t length, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)bytes, lead = p[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    *code = UTF8_BAD;
    if (lead < 0xC2 || lead > 0xF4) return 1;
    const int size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    uint32_t value = lead & (0x7F >> size);
    for (int i = 1; i < size; i++) {
        if (i >= length) {
            *code = UTF8_CUT;
            return i;
        }
        if (p[i] < (i == 1 ? low : 0x80) || p[i] > (i == 1 ? high : 0xBF)) return i;
        value = value << 6 | (p[i] & 0x3F);
    }
    *code = value;
    return size;
}

int utf8_encode(uint32_t code, char out[UTF8_MAX]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const int size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = size - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)(((0xF00u >> size) & 0xFF) | code);
    return size;
}

void utf8_add(strbuf *b, uint32_t code) {
    char bytes[UTF8_MAX];
    strbuf_add(b, bytes, (size_t)utf8_encode(code, bytes));
}

int64_t utf8_ascii(const char *bytes, int64_t length) {
    int64_t i = 0;
    for (uint64_t eight; length - i >= 8; i += 8) {
        memcpy(&eight, bytes + i, 8);
        if (eight & 0x8080808080808080u) break;
    }
    while (i < length && (unsigned char)bytes[i] < 0x80)
        i++;
    return i;
}

int64_t utf8_valid(const char *bytes, int64_t length) {
    int64_t i = 0;
    while ((i += utf8_ascii(bytes + i, length - i)) < length) {
        uint32_t code;
        const int size = utf8_decode(bytes + i, length - i, &code);
        if (code >= UTF8_CUT) return i;
        i += size;
    }
    return i;
}
