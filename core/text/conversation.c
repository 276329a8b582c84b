/* conversation — see conversation.h. */
#include "text/conversation.h"
#include <string.h>

static const struct {
    const char *from, *role;
} speakers[] = {
    {"human",         "user"     },
    {"user",          "user"     },
    {"gpt",           "assistant"},
    {"chatgpt",       "assistant"},
    {"bing",          "assistant"},
    {"bard",          "assistant"},
    {"model",         "assistant"},
    {"assistant",     "assistant"},
    {"function_call", "assistant"},
    {"system",        "system"   },
    {"developer",     "developer"},
    {"tool",          "tool"     },
    {"function",      "tool"     },
    {"observation",   "tool"     },
};

static const char *role_of(const char *from) {
    for (size_t i = 0; from && i < sizeof speakers / sizeof *speakers; i++)
        if (strcmp(from, speakers[i].from) == 0) return speakers[i].role;
    return NULL;
}

/* {"from", "value"} as {"role", "content"}; NULL when it is none. Takes no reference. */
static json_t *read_turn(json_t *turn, size_t number, graft_error *err) {
    const char *const from = json_string_value(json_object_get(turn, "from"));
    json_t *const value = json_object_get(turn, "value");
    if (!from || !value) {
        fail(err, GRAFT_FAILED, "message %zu has no \"role\" (nor \"from\" and \"value\")", number);
        return NULL;
    }
    const char *const role = role_of(from);
    if (!role) {
        fail(err, GRAFT_FAILED,
             "message %zu is from \"%s\"; known are human, gpt, system, tool, function_call and observation", number,
             from);
        return NULL;
    }
    json_t *const message = json_object();
    json_object_set_new(message, "role", json_string(role));
    json_object_set(message, "content", value);
    const char *key;
    json_t *item;
    json_object_foreach(turn, key, item) {
        if (strcmp(key, "from") != 0 && strcmp(key, "value") != 0) json_object_set(message, key, item);
    }
    return message;
}

static json_t *read_message(json_t *message, size_t number, graft_error *err) {
    if (!json_is_object(message)) {
        fail(err, GRAFT_FAILED, "message %zu must be an object {\"role\", \"content\"}", number);
        return NULL;
    }
    const json_t *const role = json_object_get(message, "role");
    if (!role) return read_turn(message, number, err);
    if (!json_is_string(role)) {
        fail(err, GRAFT_FAILED, "message %zu: \"role\" must be a text", number);
        return NULL;
    }
    return json_incref(message);
}

static int add_messages(json_t *to, json_t *list, graft_error *err) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        json_t *const message = read_message(item, json_array_size(to) + 1, err);
        if (!message) return err->code;
        json_array_append_new(to, message);
    }
    return GRAFT_OK;
}

int conversation_read(json_t *from, json_t **out, graft_error *err) {
    static const char *const names[] = {"messages", "conversations", "conversation"};
    json_t *list = json_is_array(from) ? from : NULL, *const all = json_array();
    const char *key = NULL;
    for (size_t i = 0; !list && i < sizeof names / sizeof *names; i++)
        if (json_is_array(json_object_get(from, names[i]))) list = json_object_get(from, key = names[i]);
    *out = json_is_object(from) ? json_copy(from) : json_object();
    if (key) json_object_del(*out, key);
    json_object_set_new(*out, "messages", all);
    if (!list)
        fail(err, GRAFT_FAILED, "a conversation is a list of messages, or an object whose \"messages\" is one");
    else if (add_messages(all, list, err) == GRAFT_OK && json_array_size(all) == 0)
        fail(err, GRAFT_FAILED, "the conversation has no messages");
    if (err->code) {
        json_decref(*out);
        *out = NULL;
    }
    return err->code;
}

int conversation_parse(const char *text, size_t length, const char *name, json_t **out, graft_error *err) {
    json_t *value = NULL;
    *out = NULL;
    if (json_read_text(text, length, name, JSON_LENIENT_DUPLICATES, &value, err) == GRAFT_OK)
        conversation_read(value, out, err);
    json_decref(value);
    return err->code;
}

int conversation_answer(json_t *conversation, const char *answer, size_t length, graft_error *err) {
    json_t *const all = json_object_get(conversation, "messages");
    json_t *value = NULL;
    graft_error none = {0};
    if (length && (*answer == '[' || *answer == '{'))
        json_read_text(answer, length, "completion", JSON_LENIENT_DUPLICATES, &value, &none);
    const json_t *const first = json_is_array(value) ? json_array_get(value, 0) : value;
    if (json_is_object(first) && (json_object_get(first, "role") || json_object_get(first, "from"))) {
        json_t *const list = json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
        add_messages(all, list, err);
        json_decref(list);
    } else {
        json_array_append_new(all, json_pack("{s:s, s:s%}", "role", "assistant", "content", answer, length));
    }
    json_decref(value);
    return err->code;
}

int conversation_is_assistant(const json_t *conversation, int64_t message) {
    const json_t *const all = json_object_get(conversation, "messages");
    const char *const role =
        message < 0 ? NULL : json_string_value(json_object_get(json_array_get(all, (size_t)message), "role"));
    return role && (strcmp(role, "assistant") == 0 || strcmp(role, "model") == 0);
}

int64_t conversation_count(const json_t *conversation) {
    return (int64_t)json_array_size(json_object_get(conversation, "messages"));
}
