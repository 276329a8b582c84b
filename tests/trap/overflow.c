/* overflow — a fault on purpose: one byte behind a block of four. See leak.c. */
#include <criterion/criterion.h>
#include <stdlib.h>

Test(trap, overflow) {
    char *const block = malloc(4);
    volatile int place = 4;
    block[place] = 1;
    free(block);
    cr_assert(place == 4);
}
