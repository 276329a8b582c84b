/* undefined — a fault on purpose: the sum does not fit in an int. See leak.c. */
#include <criterion/criterion.h>
#include <limits.h>

Test(trap, undefined) {
    volatile int most = INT_MAX;
    most = most + 1;
    cr_assert(most != 0);
}
