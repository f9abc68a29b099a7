/* SPDX-License-Identifier: MIT
 *
 * Rules of the assistant's messages where it may call functions: headers, and the arguments of
 * calls. Both places that models put a recipient in are among them:
 *
 *     <|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>
 *      to=functions.f<|channel|>commentary json<|message|>{…}<|call|>
 *
 * Marks stand in the rules as what no text can spell, so a name or an argument is never taken for
 * one. What other messages say is none of these rules' business: they end with its header.
 */
#include "chat/chat_internal.h"

harmony_rule_mark harmony_rule_mark_of(const harmony *h, uint32_t id) {
    if (id == TEXT_NO_ID) return HARMONY_RULE_MARKS;
    return id == h->channel     ? HARMONY_RULE_CHANNEL
           : id == h->message   ? HARMONY_RULE_MESSAGE
           : id == h->constrain ? HARMONY_RULE_CONSTRAIN
           : id == h->call      ? HARMONY_RULE_CALL
           : id == h->end       ? HARMONY_RULE_END
                                : HARMONY_RULE_MARKS;
}

const char *harmony_rule_mark_name(size_t i) {
    static const char *const names[HARMONY_RULE_MARKS] = {
        "mark-channel", "mark-message", "mark-constrain", "mark-call", "mark-end"};
    return i < HARMONY_RULE_MARKS ? names[i] : NULL;
}

/* Every function behind " to=functions.", and what follows its name. */
static void put_functions(base_buf *out, const chat_tools *t, const char *rule,
                          const char *channel) {
    base_buf_printf(out, "%s ::= \" to=functions.\" (", rule);
    for (size_t i = 0; i < t->n; i++) {
        if (i) base_buf_puts(out, "| ");
        chat_put_literal(out, t->list[i].name);
        base_buf_printf(out, "%s json args-%zu over ", channel, i);
    }
    base_buf_puts(out, ")\n");
}

rotor_status harmony_write_rules(const chat_tools *t, bool required, bool single, base_buf *out) {
    base_buf_puts(out, "root ::= \"" HARMONY_RULE_FIRST "\" first | \"" HARMONY_RULE_LATER "\" ");
    base_buf_puts(out, required ? "call\nfirst ::= thought | call\n"
                                : "first\nfirst ::= thought | said | answer | call\n");
    base_buf_puts(out, "thought ::= mark-channel \"analysis\" mark-message\n"
                       "said ::= mark-channel \"commentary\" mark-message\n"
                       "answer ::= mark-channel \"final\" json\n"
                       "json ::= (\" \"? mark-constrain \"json\" | \" json\")? mark-message\n"
                       "call ::= mark-channel where late | early\n");
    base_buf_puts(out, required ? "where ::= \"commentary\"\n"
                                : "where ::= \"commentary\" | \"analysis\"\n");
    base_buf_puts(out,
                  required || single ? "over ::= mark-call\n" : "over ::= mark-call | mark-end\n");
    put_functions(out, t, "late", "");
    put_functions(out, t, "early", "mark-channel where");
    return out->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}
