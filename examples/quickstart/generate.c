/* generate — the text behind the quickstart, written for this project and made by rules: a small world of animals.
 *
 *   generate story SEED PIECES  plain text about the animals, with questions answered in sentences: what the tiny model is
 *                               trained on from scratch (train.ini)
 *   generate task train|eval    JSON lines {"prompt", "completion"}: the same questions answered as a record; the questions
 *                               of `eval` are not among those of `train`, so a right answer needs the base's knowledge
 *   generate tokenizer          the model's tokenizer.json: a token a byte, and two special ones
 *
 * Everything is a function of its arguments, so the files and the model can be made again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *home, *food, *colour, *sound, *gift;
} animal;

static const animal animals[] = {
    {"fox",   "forest",  "berries", "red",      "barks",   "a ribbon"  },
    {"owl",   "barn",    "mice",    "brown",    "hoots",   "a candle"  },
    {"frog",  "pond",    "flies",   "green",    "croaks",  "a bell"    },
    {"crab",  "bay",     "shells",  "orange",   "clicks",  "a pearl"   },
    {"goat",  "meadow",  "grass",   "white",    "bleats",  "a rope"    },
    {"crow",  "tower",   "seeds",   "black",    "caws",    "a button"  },
    {"duck",  "river",   "weeds",   "yellow",   "quacks",  "a boat"    },
    {"bear",  "cave",    "honey",   "dark",     "growls",  "a blanket" },
    {"mouse", "cellar",  "cheese",  "grey",     "squeaks", "a thimble" },
    {"horse", "stable",  "oats",    "chestnut", "neighs",  "a saddle"  },
    {"hen",   "yard",    "corn",    "speckled", "clucks",  "an egg"    },
    {"cat",   "kitchen", "fish",    "striped",  "purrs",   "a ball"    },
    {"wolf",  "valley",  "meat",    "silver",   "howls",   "a drum"    },
    {"bee",   "garden",  "nectar",  "golden",   "buzzes",  "a flower"  },
    {"snake", "desert",  "eggs",    "sandy",    "hisses",  "a stone"   },
    {"seal",  "ocean",   "squid",   "spotted",  "roars",   "a fishbone"},
};
enum { ANIMALS = sizeof animals / sizeof *animals, TOPICS = 5 };
static const char *const topics[TOPICS] = {"home", "food", "colour", "sound", "gift"};

static const char *fact(const animal *a, int topic) {
    const char *const facts[TOPICS] = {a->home, a->food, a->colour, a->sound, a->gift};
    return facts[topic];
}

static void question(FILE *to, const animal *a, int topic) {
    static const char *const forms[TOPICS] = {"Where does the %s live?", "What does the %s eat?",
                                              "What colour is the %s?", "How does the %s talk?",
                                              "What would the %s like?"};
    fprintf(to, forms[topic], a->name);
}

static void record(FILE *to, const animal *a, int topic) {
    fprintf(to, "{\"animal\": \"%s\", \"%s\": \"%s\"}", a->name, topics[topic], fact(a, topic));
}

static void answer(FILE *to, const animal *a, int topic) {
    static const char *const forms[TOPICS] = {"The %s lives in the %s.", "The %s eats %s.", "The %s is %s.",
                                              "The %s %s.", "The %s would like %s."};
    fprintf(to, forms[topic], a->name, fact(a, topic));
}

/* Knuth's MMIX generator, high bits. */
static uint64_t state;
static int draw(int below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)below);
}

static void tell(FILE *to) {
    const animal *a = &animals[draw(ANIMALS)], *b = &animals[draw(ANIMALS)];
    switch (draw(4)) {
    case 0: /* two animals meet */
        fprintf(to, "One day the %s went to the %s. ", a->name, b->home);
        answer(to, b, 0);
        fprintf(to, " \"Hello,\" said the %s. \"I brought you %s and some %s.\" The %s was happy. ", a->name, b->gift,
                b->food, b->name);
        answer(to, b, 3);
        break;
    case 1: /* what one is like */
        answer(to, a, 2);
        fputc(' ', to);
        answer(to, a, 0);
        fputc(' ', to);
        answer(to, a, 1);
        fputc(' ', to);
        answer(to, a, 3);
        break;
    default: /* questions in a row, about one animal or several, answered for people or for machines */
        for (int n = draw(3) ? 1 : 2 + draw(2), same = draw(2), machine = !draw(3); n > 0; n--) {
            const animal *of = same ? a : &animals[draw(ANIMALS)];
            const int topic = draw(TOPICS);
            fputs("Question: ", to);
            question(to, of, topic);
            fputs(machine ? "\nRecord: " : "\nAnswer: ", to);
            (machine ? record : answer)(to, of, topic);
            if (n > 1) fputc('\n', to);
        }
    }
    fputs("\n\n", to);
}

/* Every animal has one topic that is asked in `eval` alone. */
static void task(FILE *to, int eval) {
    for (int n = 0; n < ANIMALS * TOPICS; n++) {
        const int which = n * 7 % ANIMALS, topic = (n / ANIMALS + which) % TOPICS; /* mixed order, each pair once */
        if ((which * 3 % TOPICS == topic) != eval) continue;
        fputs("{\"prompt\": \"Question: ", to);
        question(to, &animals[which], topic);
        fprintf(to, "\\nAnswer:\", \"completion\": \" {\\\"animal\\\": \\\"%s\\\", \\\"%s\\\": \\\"%s\\\"}\"}\n",
                animals[which].name, topics[topic], fact(&animals[which], topic));
    }
}

/* Byte-level BPE without merges: the id of a byte is the byte. Its name is GPT-2's: itself where it prints in Latin-1, else a
 * letter from U+0100 on; two bytes of UTF-8 from U+0080 on. */
static void tokenizer(FILE *to) {
    static const char *const special[] = {"<|endoftext|>", "<pad>"};
    static const char level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
                                "\"use_regex\": true}";
    fputs("{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [", to);
    for (int n = 0; n < 2; n++)
        fprintf(to,
                "%s\n  {\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                "\"normalized\": false, \"special\": true}",
                n ? "," : "", 256 + n, special[n]);
    fprintf(to, "],\n\"normalizer\": null, \"pre_tokenizer\": %s,\n\"post_processor\": null, \"decoder\": %s,\n", level,
            level);
    fputs("\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {", to);
    for (int byte = 0, hidden = 256; byte < 256; byte++) {
        const int prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        const int name = prints ? byte : hidden++;
        fprintf(to, "%s%s\"", byte ? "," : "", byte % 16 ? " " : "\n  ");
        if (name == '"' || name == '\\') fputc('\\', to);
        if (name > 127) fputc(192 + name / 64, to);
        fprintf(to, "%c\": %d", name > 127 ? 128 + name % 64 : name, byte);
    }
    fputs("}}}\n", to);
}

int main(int count, char **words) {
    if (count == 4 && strcmp(words[1], "story") == 0) {
        const long pieces = strtol(words[3], NULL, 10);
        state = strtoull(words[2], NULL, 10);
        for (long n = 0; n < pieces; n++)
            tell(stdout);
        return 0;
    }
    if (count == 3 && strcmp(words[1], "task") == 0 &&
        (strcmp(words[2], "train") == 0 || strcmp(words[2], "eval") == 0)) {
        task(stdout, strcmp(words[2], "eval") == 0);
        return 0;
    }
    if (count == 2 && strcmp(words[1], "tokenizer") == 0) {
        tokenizer(stdout);
        return 0;
    }
    fprintf(stderr, "usage: generate story SEED PIECES | generate task train|eval | generate tokenizer\n");
    return 2;
}
