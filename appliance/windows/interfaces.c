// What of an adapter is only in the registry: Tcpip\Parameters\Interfaces\{id} and Control\Network\{class}\{id}.

#include "network.h"

#define INTERFACES L"SYSTEM\\CurrentControlSet\\Services\\Tcpip\\Parameters\\Interfaces\\"
// The class of network adapters, GUID_DEVCLASS_NET.
#define CONNECTIONS L"SYSTEM\\CurrentControlSet\\Control\\Network\\{4D36E972-E325-11CE-BFC1-08002BE10318}\\"

static HKEY open(const WCHAR *path)
{
    HKEY key = NULL;
    if (RegOpenKeyExW(HKEY_LOCAL_MACHINE, path, 0, KEY_READ | KEY_WRITE, &key) != ERROR_SUCCESS)
        return NULL;
    return key;
}

static void set_text(HKEY key, const WCHAR *name, DWORD type, const WCHAR *text, size_t len)
{
    RegSetValueExW(key, name, 0, type, (const BYTE *)text, (DWORD)(len * sizeof(WCHAR)));
}

static void forget_addresses(const WCHAR *id)
{
    static const WCHAR none[2];
    static const WCHAR *const lists[] = {L"IPAddress", L"SubnetMask", L"DefaultGateway", L"DefaultGatewayMetric"};
    DWORD yes = 1;
    HKEY key = open(joined(INTERFACES, id, NULL));
    if (!key)
        return;
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
        if (RegQueryValueExW(key, lists[i], NULL, NULL, NULL, NULL) == ERROR_SUCCESS)
            set_text(key, lists[i], REG_MULTI_SZ, none, 2);
    if (RegQueryValueExW(key, L"NameServer", NULL, NULL, NULL, NULL) == ERROR_SUCCESS)
        set_text(key, L"NameServer", REG_SZ, none, 1);
    RegSetValueExW(key, L"EnableDHCP", 0, REG_DWORD, (const BYTE *)&yes, sizeof(yes));
    RegCloseKey(key);
    log_line(L"adapter ", id, L" is gone: its addresses are free", NULL);
}

// Two connections cannot have one name, even if one is gone.
static void forget_name(const WCHAR *id, const WCHAR *name)
{
    HKEY key = open(joined(CONNECTIONS, id, L"\\Connection", NULL));
    if (!key)
        return;
    const WCHAR *other = joined(name, L" ", id, NULL);
    set_text(key, L"Name", REG_SZ, other, length(other) + 1);
    RegCloseKey(key);
}

// What the vanished adapters had becomes free for the new one.
void free_old(const struct adapter *wanted, IP_ADAPTER_ADDRESSES *list)
{
    for (size_t i = 0; i < wanted->old_count; i++) {
        const WCHAR *id = wanted->old[i];
        if (is_present(list, id))
            continue;
        forget_addresses(id);
        if (wanted->name)
            forget_name(id, wanted->name);
    }
}

void set_suffix(const WCHAR *id, const WCHAR *suffix)
{
    HKEY key = open(joined(INTERFACES, id, NULL));
    if (!key)
        return;
    set_text(key, L"Domain", REG_SZ, suffix, length(suffix) + 1);
    RegCloseKey(key);
}

// XP's netsh cannot.
void set_metric_xp(const WCHAR *id, DWORD metric)
{
    HKEY key = open(joined(INTERFACES, id, NULL));
    if (!key)
        return;
    RegSetValueExW(key, L"InterfaceMetric", 0, REG_DWORD, (const BYTE *)&metric, sizeof(metric));
    RegCloseKey(key);
}
