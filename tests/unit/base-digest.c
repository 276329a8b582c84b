/* SHA-256 against the examples of FIPS 180-4 and CRC-32 against the check value of its definition. */
#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *unit;
    int times;
    const char *hex;
} vectors[] = {
    {"",                                                         1,       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc",                                                      1,       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"                                                                     },
    {"a",                                                        1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

Test(sha256, gives_the_known_digests) {
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        sha256 s;
        char hex[65];
        sha256_begin(&s);
        for (int k = 0; k < vectors[i].times; k++)
            sha256_add(&s, vectors[i].unit, strlen(vectors[i].unit));
        sha256_end(&s, hex);
        cr_assert_str_eq(hex, vectors[i].hex);
    }
}

Test(sha256, does_not_depend_on_how_the_bytes_are_cut) {
    unsigned char bytes[300];
    for (int i = 0; i < 300; i++)
        bytes[i] = (unsigned char)(i * 7);
    for (size_t length = 0; length <= sizeof bytes; length++) {
        sha256 whole, cut;
        char a[65], b[65];
        sha256_begin(&whole);
        sha256_add(&whole, bytes, length);
        sha256_end(&whole, a);
        sha256_begin(&cut);
        for (size_t at = 0, step = 1; at < length; at += step, step = step % 97 + 13)
            sha256_add(&cut, bytes + at, step < length - at ? step : length - at);
        sha256_end(&cut, b);
        cr_assert_str_eq(a, b, "length %zu", length);
    }
}

Test(sha256, of_a_file_is_that_of_its_bytes_and_errors_name_the_file) {
    char path[] = BINARY_DIR "/base-digest-XXXXXX", hex[65];
    close(mkstemp(path));
    char *const bytes = mem_new(1000000, 1);
    memset(bytes, 'a', 1000000);
    graft_error err = {0};
    cr_assert_eq(file_write(path, bytes, 1000000, &err), 0, "%s", err.text);
    cr_assert_eq(sha256_file(path, hex, &err), 0, "%s", err.text);
    cr_assert_str_eq(hex, vectors[3].hex);
    unlink(path);
    cr_assert_eq(sha256_file(path, hex, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, path));
    err = (graft_error){0};
    cr_assert_eq(sha256_file(BINARY_DIR, hex, &err), GRAFT_FAILED);
    cr_assert_not_null(strstr(err.text, BINARY_DIR));
    free(bytes);
}

Test(crc32, gives_the_check_value_and_can_be_continued) {
    cr_assert_eq(digest_crc32(0, "123456789", 9), 0xcbf43926);
    cr_assert_eq(digest_crc32(digest_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
    cr_assert_eq(digest_crc32(0, "", 0), 0);
}
