/* leak — a fault on purpose, which Criterion calls passed: scripts/test proves with it that the sanitizers' trap closes. */
#include <criterion/criterion.h>
#include <stdlib.h>

Test(trap, leak) {
    void *volatile lost = malloc(24);
    lost = NULL;
    cr_assert(lost == NULL);
}
