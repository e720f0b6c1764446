// Text and memory without a C run-time library.

#include "v2v.h"
#include <stdarg.h>

// The compiler calls these by itself.
void *memset(void *to, int byte, size_t len)
{
    unsigned char *at = to;
    while (len--)
        *at++ = (unsigned char)byte;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
    unsigned char *at = to;
    const unsigned char *source = from;
    while (len--)
        *at++ = *source++;
    return to;
}

// Memory that is all zero; the program ends where there is none.
void *reserve(size_t len)
{
    void *memory = HeapAlloc(GetProcessHeap(), HEAP_ZERO_MEMORY, len);
    if (!memory)
        ExitProcess(ERROR_NOT_ENOUGH_MEMORY);
    return memory;
}

size_t length(const WCHAR *text)
{
    size_t len = 0;
    while (text[len])
        len++;
    return len;
}

static WCHAR lower(WCHAR letter)
{
    return letter >= L'A' && letter <= L'Z' ? (WCHAR)(letter + 32) : letter;
}

// By code units, ASCII letters without regard to case.
int compare(const WCHAR *a, const WCHAR *b)
{
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return (int)lower(*a) - (int)lower(*b);
}

BOOL same(const WCHAR *a, const WCHAR *b)
{
    return compare(a, b) == 0;
}

BOOL ends_with(const WCHAR *text, const WCHAR *end)
{
    size_t len = length(text), end_len = length(end);
    return len >= end_len && same(text + len - end_len, end);
}

// All arguments up to a NULL, one behind the other.
WCHAR *joined(const WCHAR *first, ...)
{
    va_list list;
    const WCHAR *text;
    size_t len = 0;
    va_start(list, first);
    for (text = first; text; text = va_arg(list, const WCHAR *))
        len += length(text);
    va_end(list);
    WCHAR *result = reserve((len + 1) * sizeof(WCHAR));
    WCHAR *at = result;
    va_start(list, first);
    for (text = first; text; text = va_arg(list, const WCHAR *)) {
        memcpy(at, text, length(text) * sizeof(WCHAR));
        at += length(text);
    }
    va_end(list);
    return result;
}

WCHAR *part(const WCHAR *from, size_t len)
{
    WCHAR *result = reserve((len + 1) * sizeof(WCHAR));
    memcpy(result, from, len * sizeof(WCHAR));
    return result;
}

WCHAR *decimal(DWORD number)
{
    WCHAR digits[11];
    size_t at = 10;
    digits[at] = 0;
    do {
        digits[--at] = (WCHAR)(L'0' + number % 10);
        number /= 10;
    } while (number);
    return part(digits + at, 10 - at);
}

WCHAR *from_utf8(const char *bytes, size_t len)
{
    int wide = len ? MultiByteToWideChar(CP_UTF8, 0, bytes, (int)len, NULL, 0) : 0;
    WCHAR *text = reserve(((size_t)wide + 1) * sizeof(WCHAR));
    if (wide)
        MultiByteToWideChar(CP_UTF8, 0, bytes, (int)len, text, wide);
    return text;
}

// The whole text is a decimal number.
BOOL to_number(const WCHAR *text, DWORD *number)
{
    DWORD value = 0;
    if (!*text)
        return FALSE;
    for (; *text; text++) {
        if (*text < L'0' || *text > L'9' || value > (MAXDWORD - 9) / 10)
            return FALSE;
        value = value * 10 + (DWORD)(*text - L'0');
    }
    *number = value;
    return TRUE;
}

// Cuts a command line at blanks outside of quotes, in place; the quotes go. Paths are all that it is for.
int arguments(WCHAR *line, WCHAR **words, int most)
{
    int count = 0;
    while (count < most) {
        BOOL quoted = FALSE;
        while (*line == L' ' || *line == L'\t')
            line++;
        if (!*line)
            break;
        WCHAR *to = line;
        words[count++] = to;
        while (*line && (quoted || (*line != L' ' && *line != L'\t'))) {
            if (*line == L'"')
                quoted = !quoted;
            else
                *to++ = *line;
            line++;
        }
        if (*line)
            line++;
        *to = 0;
    }
    return count;
}
