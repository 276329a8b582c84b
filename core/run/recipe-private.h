/* recipe-private — shared by recipe*.c: what the core knows about each section. */
#ifndef GRAFT_RUN_RECIPE_PRIVATE_H
#define GRAFT_RUN_RECIPE_PRIVATE_H
#include "run/recipe.h"

typedef struct {
    const char *name;
    const graft_option *rows;
    int count;
    const char *choice;   /* the key that names the plugin, NULL: none              */
    plugin_kind kind;     /* of that plugin                                         */
    int64_t use;          /* offset of the recipe_use in the section's struct       */
    int64_t place;        /* offset of the struct in the recipe; of [adapter]: -1   */
    const char *required; /* the key that `need` asks for, NULL: none               */
    int need;             /* RECIPE_MODEL ...                                       */
} recipe_rule;

enum { RECIPE_RULES = 9 };
extern const recipe_rule recipe_rules[RECIPE_RULES]; /* in the order in which sections are shown */

/* Reads the lists and patterns of the sections, and checks keys against each other. */
void recipe_check(recipe *r, problems *p);
/* Files and folders that are read must be there. */
void recipe_check_places(recipe *r, problems *p);

#endif
