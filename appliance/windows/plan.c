// Reads the plan: UTF-8, lines of `key=value` in sections [adapter] and [options], `#` comments.

#include "network.h"

#define PLAN_MAX (1u << 20)
#define WAIT_SECONDS 180u
#define WAIT_SECONDS_MAX 3600u

static int hex(WCHAR letter)
{
    if (letter >= L'0' && letter <= L'9')
        return letter - L'0';
    letter |= 32;
    return letter >= L'a' && letter <= L'f' ? letter - L'a' + 10 : -1;
}

static BOOL parse_mac(const WCHAR *text, unsigned char *mac)
{
    if (length(text) != MAC_LEN * 3 - 1)
        return FALSE;
    for (int i = 0; i < MAC_LEN; i++, text += 3) {
        int high = hex(text[0]), low = hex(text[1]);
        if (high < 0 || low < 0 || (i + 1 < MAC_LEN && text[2] != L':' && text[2] != L'-'))
            return FALSE;
        mac[i] = (unsigned char)(high << 4 | low);
    }
    return TRUE;
}

static BOOL parse_v4(const WCHAR *text, unsigned char *bytes)
{
    for (int i = 0; i < 4; i++) {
        unsigned value = 0, digits = 0;
        for (; *text >= L'0' && *text <= L'9' && digits < 4; text++, digits++)
            value = value * 10 + (unsigned)(*text - L'0');
        if (!digits || value > 255 || *text != (i < 3 ? L'.' : 0))
            return FALSE;
        bytes[i] = (unsigned char)value;
        text++;
    }
    return TRUE;
}

// RFC 4291 section 2.2, forms 1 and 2.
static BOOL parse_v6(const WCHAR *text, unsigned char *bytes)
{
    unsigned groups[8], count = 0, gap = 8;
    if (text[0] == L':' && text[1] == L':') {
        gap = 0;
        text += 2;
    }
    while (*text) {
        unsigned value = 0, digits = 0;
        for (; hex(*text) >= 0 && digits < 5; text++, digits++)
            value = value << 4 | (unsigned)hex(*text);
        if (!digits || digits > 4 || count == 8)
            return FALSE;
        groups[count++] = value;
        if (!*text)
            break;
        if (*text++ != L':')
            return FALSE;
        if (*text == L':') {
            if (gap < 8)
                return FALSE;
            gap = count;
            text++;
        } else if (!*text)
            return FALSE;
    }
    if (gap < 8 ? count > 7 : count != 8)
        return FALSE;
    for (unsigned i = 0; i < 8; i++) {
        unsigned value = 0;
        if (i < gap && i < count)
            value = groups[i];
        else if (gap < 8 && i >= gap + 8 - count)
            value = groups[i - (8 - count)];
        bytes[2 * i] = (unsigned char)(value >> 8);
        bytes[2 * i + 1] = (unsigned char)value;
    }
    return TRUE;
}

// An address without anything behind it.
BOOL parse_address(const WCHAR *text, struct address *address)
{
    if (parse_v4(text, address->bytes))
        address->family = AF_INET;
    else if (parse_v6(text, address->bytes))
        address->family = AF_INET6;
    else
        return FALSE;
    address->text = joined(text, NULL);
    return TRUE;
}

// `ADDRESS`, or `ADDRESS` and a number behind `mark`.
static BOOL parse_item(WCHAR *value, WCHAR mark, struct items *items)
{
    if (items->count == ITEMS_MAX)
        return FALSE;
    struct address *address = &items->item[items->count];
    WCHAR *at = value;
    while (*at && *at != mark)
        at++;
    if (mark && *at) {
        *at++ = 0;
        while (*at == L' ')
            at++;
        address->has_number = to_number(at, &address->number);
        if (!address->has_number)
            return FALSE;
    }
    if (!parse_address(value, address))
        return FALSE;
    items->count++;
    return TRUE;
}

static BOOL parse_prefixed(WCHAR *value, struct items *items)
{
    if (!parse_item(value, L'/', items))
        return FALSE;
    const struct address *address = &items->item[items->count - 1];
    return address->has_number && address->number <= (address->family == AF_INET ? 32u : 128u);
}

// Netmask of a prefix length, dotted.
WCHAR *mask_of(DWORD prefix)
{
    DWORD mask = prefix ? 0xffffffffu << (32 - (prefix > 32 ? 32 : prefix)) : 0;
    return joined(decimal(mask >> 24), L".", decimal(mask >> 16 & 255), L".", decimal(mask >> 8 & 255), L".",
                  decimal(mask & 255), NULL);
}

static BOOL is_plain_name(const WCHAR *text)
{
    for (; *text; text++)
        if (*text == L'"' || *text < L' ')
            return FALSE;
    return TRUE;
}

static BOOL set(struct adapter *adapter, const WCHAR *key, WCHAR *value)
{
    if (same(key, L"mac")) {
        adapter->mac_text = value;
        return parse_mac(value, adapter->mac);
    }
    if (same(key, L"name"))
        return is_plain_name(adapter->name = value);
    if (same(key, L"suffix"))
        return is_plain_name(adapter->suffix = value);
    if (same(key, L"old")) {
        if (adapter->old_count == ITEMS_MAX)
            return FALSE;
        adapter->old[adapter->old_count++] = value;
        return TRUE;
    }
    if (same(key, L"dhcp"))
        return (adapter->dhcp = same(value, L"1")) || same(value, L"0");
    if (same(key, L"metric"))
        return adapter->has_metric = to_number(value, &adapter->metric);
    if (same(key, L"address"))
        return parse_prefixed(value, &adapter->addresses);
    if (same(key, L"gateway"))
        return parse_item(value, L' ', &adapter->gateways);
    if (same(key, L"dns"))
        return parse_item(value, 0, &adapter->servers);
    return FALSE;
}

static WCHAR *trimmed(WCHAR *from, WCHAR *to)
{
    while (from < to && *from <= L' ')
        from++;
    while (to > from && to[-1] <= L' ')
        to--;
    return part(from, (size_t)(to - from));
}

// One line; `current` is the section's adapter, NULL in [options].
static BOOL parse_line(struct plan *plan, struct adapter **current, WCHAR *line)
{
    if (!*line || *line == L'#')
        return TRUE;
    if (same(line, L"[options]")) {
        *current = NULL;
        return TRUE;
    }
    if (same(line, L"[adapter]")) {
        if (plan->count == ADAPTERS_MAX)
            return FALSE;
        *current = &plan->adapter[plan->count++];
        return TRUE;
    }
    WCHAR *equals = line;
    while (*equals && *equals != L'=')
        equals++;
    if (!*equals)
        return FALSE;
    WCHAR *key = trimmed(line, equals);
    WCHAR *value = trimmed(equals + 1, equals + 1 + length(equals + 1));
    if (*current)
        return set(*current, key, value);
    return same(key, L"wait") && to_number(value, &plan->wait_seconds) && plan->wait_seconds <= WAIT_SECONDS_MAX;
}

// Reads all of it; what is wrong is logged, and nothing is done by half a plan.
BOOL read_plan(const WCHAR *path, struct plan *plan)
{
    size_t len;
    struct adapter *current = NULL;
    char *bytes = read_file(path, PLAN_MAX, &len);
    if (!bytes) {
        log_error(L"reading", path, GetLastError());
        return FALSE;
    }
    plan->wait_seconds = WAIT_SECONDS;
    WCHAR *text = from_utf8(bytes, len);
    while (*text) {
        WCHAR *end = text;
        while (*end && *end != L'\n')
            end++;
        WCHAR *line = trimmed(text, end);
        if (!parse_line(plan, &current, line)) {
            log_line(path, L": not understood: ", line, NULL);
            return FALSE;
        }
        text = *end ? end + 1 : end;
    }
    for (size_t i = 0; i < plan->count; i++)
        if (!plan->adapter[i].mac_text) {
            log_line(path, L": an adapter without mac=", NULL);
            return FALSE;
        }
    return TRUE;
}
