/* SPDX-License-Identifier: MIT
 *
 * What a file is: by its first bytes where they are a signature, then by its name, then by what its
 * text looks like. A name never overrules a signature: a PDF called notes.txt is a PDF, a picture
 * called notes.txt is no text.
 */
#include "extract/extract.h"

static const char *const type_names[EX_TYPES] = {"auto",  "text", "markdown", "html", "pdf",
                                                 "docx",  "epub", "csv",      "tsv",  "json",
                                                 "jsonl", "code", "eml",      "mbox", "mediawiki"};

const char *ex_type_name(ex_type t) { return t < EX_TYPES ? type_names[t] : "unknown"; }

ex_type ex_type_of_name(const char *name) {
    for (int t = 0; t < EX_TYPES; t++)
        if (strcmp(name, type_names[t]) == 0) return (ex_type)t;
    return EX_TYPES;
}

static const struct {
    const char *ending;
    ex_type type;
} endings[] = {
    {".md", EX_MARKDOWN}, {".markdown", EX_MARKDOWN}, {".mdown", EX_MARKDOWN}, {".html", EX_HTML},
    {".htm", EX_HTML},    {".xhtml", EX_HTML},        {".pdf", EX_PDF},        {".docx", EX_DOCX},
    {".epub", EX_EPUB},   {".csv", EX_CSV},           {".tsv", EX_TSV},        {".tab", EX_TSV},
    {".json", EX_JSON},   {".jsonl", EX_JSONL},       {".ndjson", EX_JSONL},   {".eml", EX_EML},
    {".mbox", EX_MBOX},   {".mbx", EX_MBOX},          {".c", EX_CODE},         {".h", EX_CODE},
    {".cc", EX_CODE},     {".cpp", EX_CODE},          {".cxx", EX_CODE},       {".hpp", EX_CODE},
    {".hh", EX_CODE},     {".cs", EX_CODE},           {".java", EX_CODE},      {".kt", EX_CODE},
    {".swift", EX_CODE},  {".scala", EX_CODE},        {".js", EX_CODE},        {".mjs", EX_CODE},
    {".jsx", EX_CODE},    {".ts", EX_CODE},           {".tsx", EX_CODE},       {".py", EX_CODE},
    {".pyi", EX_CODE},    {".rs", EX_CODE},           {".go", EX_CODE},        {".rb", EX_CODE},
    {".php", EX_CODE},    {".pl", EX_CODE},           {".pm", EX_CODE},        {".lua", EX_CODE},
    {".sh", EX_CODE},     {".bash", EX_CODE},         {".zsh", EX_CODE},       {".sql", EX_CODE},
    {".r", EX_CODE},      {".jl", EX_CODE},           {".m", EX_CODE},         {".mm", EX_CODE},
    {".zig", EX_CODE},    {".hs", EX_CODE},           {".ml", EX_CODE},        {".ex", EX_CODE},
    {".exs", EX_CODE},    {".erl", EX_CODE},          {".clj", EX_CODE},       {".el", EX_CODE},
    {".lisp", EX_CODE},   {".vim", EX_CODE},          {".css", EX_CODE},       {".scss", EX_CODE},
    {".glsl", EX_CODE},   {".cl", EX_CODE},           {".cu", EX_CODE},        {".cmake", EX_CODE},
    {".gradle", EX_CODE}, {".dart", EX_CODE},         {".s", EX_CODE},         {".asm", EX_CODE},
    {".toml", EX_CODE},   {".yaml", EX_CODE},         {".yml", EX_CODE},       {".ini", EX_CODE},
    {".conf", EX_CODE},   {".txt", EX_TEXT},          {".text", EX_TEXT},      {".rst", EX_TEXT},
    {".org", EX_TEXT},    {".log", EX_TEXT},          {".tex", EX_TEXT},
};

static const struct {
    const char *bytes;
    size_t n;
    const char *what;
} others[] = {
    {"\x89PNG", 4, "a PNG image"},
    {"\xFF\xD8\xFF", 3, "a JPEG image"},
    {"GIF8", 4, "a GIF image"},
    {"RIFF", 4, "a RIFF file (sound, film or image)"},
    {"\x7F"
     "ELF",
     4, "a program"},
    {"MZ\x90", 3, "a program"},
    {"\x1F\x8B", 2, "a gzip archive"},
    {"BZh", 3, "a bzip2 archive"},
    {"\xFD"
     "7zXZ",
     5, "an xz archive"},
    {"\x28\xB5\x2F\xFD", 4, "a zstd archive"},
    {"7z\xBC\xAF", 4, "a 7z archive"},
    {"Rar!", 4, "a RAR archive"},
    {"SQLite format 3", 15, "an SQLite database"},
    {"GGUF", 4, "a model file"},
    {"ID3", 3, "a sound file"},
    {"OggS", 4, "a sound file"},
    {"{\\rtf", 5, "an RTF document, which is not read"},
    {"\xD0\xCF\x11\xE0", 4, "an old Office document, which is not read"},
};

static bool contains(base_str s, const char *what) {
    const size_t m = strlen(what);
    for (size_t i = 0; i + m <= s.n; i++)
        if (s.p[i] == what[0] && memcmp(s.p + i, what, m) == 0) return true;
    return false;
}

static base_str front(base_str s, size_t n) { return (base_str){s.p, BASE_MIN(s.n, n)}; }

/* A zip file: the names of its entries stand in it unpacked. */
static ex_type zip_type(base_str head, const char *name, const char **what) {
    if (contains(front(head, 256), "application/epub+zip")) return EX_EPUB;
    if (contains(head, "word/document.xml")) return EX_DOCX;
    if (name && ex_ends_with(name, ".docx")) return EX_DOCX;
    if (name && ex_ends_with(name, ".epub")) return EX_EPUB;
    *what = "a zip archive that is neither DOCX nor EPUB";
    return EX_TYPES;
}

static ex_type by_signature(base_str head, const char *name, const char **what) {
    if (contains(front(head, 1024), "%PDF-")) return EX_PDF;
    if (head.n >= 4 && memcmp(head.p, "PK\3\4", 4) == 0) return zip_type(head, name, what);
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        if (head.n >= others[i].n && memcmp(head.p, others[i].bytes, others[i].n) == 0) {
            *what = others[i].what;
            return EX_TYPES;
        }
    return EX_AUTO;
}

/* "Name: value", as the header of a letter has them. */
static bool is_header_line(base_str line) {
    size_t i = 0;
    while (i < line.n && line.p[i] > ' ' && line.p[i] < 0x7F && line.p[i] != ':') i++;
    return i > 0 && i < line.n && line.p[i] == ':';
}

/* "From " and then header lines with one that only letters have. */
static bool is_mailbox(base_str head) {
    size_t at;
    if (head.n < 5 || memcmp(head.p, "From ", 5) != 0) return false;
    ex_line(head, 0, &at);
    return at < head.n && is_header_line(ex_line(head, at, &at));
}

static bool is_letter(base_str head) {
    bool known = false;
    size_t at = 0, n = 0;
    while (at < head.n && n < 64) {
        const base_str line = ex_line(head, at, &at);
        if (line.n == 0) break;
        if (n > 0 && (line.p[0] == ' ' || line.p[0] == '\t')) continue;
        if (!is_header_line(line)) return false;
        known |= ex_starts_with(line, "message-id:") || ex_starts_with(line, "received:") ||
                 ex_starts_with(line, "mime-version:") || ex_starts_with(line, "return-path:");
        n++;
    }
    return known && n >= 2;
}

static bool is_markup(base_str head) {
    const base_str s = ex_trim(front(head, 4096));
    if (ex_starts_with(s, "<!doctype html") || ex_starts_with(s, "<html")) return true;
    return (ex_starts_with(s, "<?xml") || ex_starts_with(s, "<!--")) &&
           (contains(s, "<html") || contains(s, "<!DOCTYPE html"));
}

static ex_type by_looks(base_str head) {
    const base_str s = ex_trim(head);
    size_t next;
    if (is_markup(head)) return EX_HTML;
    if (is_mailbox(head)) return EX_MBOX;
    if (is_letter(head)) return EX_EML;
    if (s.n > 1 && s.p[0] == '{' && s.p[1] == '"') {
        const base_str line = ex_trim(ex_line(s, 0, &next));
        return line.p[line.n - 1] == '}' && next < s.n ? EX_JSONL : EX_JSON;
    }
    if (s.n > 2 && s.p[0] == '#' && s.p[1] == '!') return EX_CODE;
    return EX_TEXT;
}

ex_type ex_detect(base_str head, const char *name, const char **what) {
    *what = NULL;
    const ex_type signed_type = by_signature(head, name, what);
    if (signed_type != EX_AUTO) return signed_type;
    if (contains(front(head, 4096), "<mediawiki")) return EX_WIKI;
    for (size_t i = 0; name && i < BASE_COUNT(endings); i++)
        if (ex_ends_with(name, endings[i].ending)) {
            /* Its first bytes are not the signature that this name needs. */
            const bool packed = endings[i].type == EX_PDF || endings[i].type == EX_DOCX ||
                                endings[i].type == EX_EPUB;
            if (!packed) return endings[i].type;
        }
    return by_looks(head);
}
