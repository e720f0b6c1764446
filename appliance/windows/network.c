// Gives the adapters their addresses back, by MAC.
//
// AddIPAddress and CreateUnicastIpAddressEntry hold until the next boot only (Microsoft's documentation of both), so that
// netsh does it: from Vista on by the number of the interface, which no language changes; on XP and 2003, whose netsh
// takes names only, by the name of the connection.

#include "network.h"

#define NETSH_SECONDS 60u
#define VERIFY_SECONDS 20

struct target {
    BOOL print;
    BOOL vista;         // and later
    BOOL seven;         // and later: netsh checks name servers unless told not to
    WCHAR *v4, *v6;     // the interface in netsh's words
};

static void netsh(const struct target *target, const WCHAR *words)
{
    DWORD code;
    log_line(L"netsh ", words, NULL);
    if (target->print)
        return;
    WCHAR *line = joined(L"\"", system_program(L"netsh.exe"), L"\" ", words, NULL);
    enum outcome outcome = run_command(line, NULL, NETSH_SECONDS, NULL, &code);
    if (outcome != RAN || code)
        log_error(outcome == RAN ? L"ending of" : L"running", L"netsh", code);
}

static const struct address *first(const struct items *items, int family)
{
    for (size_t i = 0; i < items->count; i++)
        if (items->item[i].family == family)
            return &items->item[i];
    return NULL;
}

static WCHAR *metric(const struct address *gateway)
{
    return decimal(gateway->has_number ? gateway->number : 0);
}

static void set_v4(const struct adapter *wanted, const struct target *target)
{
    const struct address *primary = first(&wanted->addresses, AF_INET);
    const struct address *gateway = first(&wanted->gateways, AF_INET);
    const WCHAR *context = target->vista ? L"interface ipv4 " : L"interface ip ";
    const WCHAR *address = target->vista ? L" address=" : L" addr=";
    if (!primary)
        return;
    const WCHAR *way = L" gateway=none";
    if (gateway) {
        // XP's netsh knows no automatic metric here: 1 is what its dialog writes.
        WCHAR *weight = target->vista || gateway->number ? metric(gateway) : L"1";
        way = joined(L" gateway=", gateway->text, L" gwmetric=", weight, NULL);
    }
    netsh(target, joined(context, L"set address name=", target->v4, L" source=static", address, primary->text,
                         L" mask=", mask_of(primary->number), way, NULL));
    for (size_t i = 0; i < wanted->addresses.count; i++) {
        const struct address *item = &wanted->addresses.item[i];
        if (item->family == AF_INET && item != primary)
            netsh(target, joined(context, L"add address name=", target->v4, address, item->text, L" mask=",
                                 mask_of(item->number), NULL));
    }
    for (size_t i = 0; i < wanted->gateways.count; i++) {
        const struct address *item = &wanted->gateways.item[i];
        if (item->family == AF_INET && item != gateway)
            netsh(target, joined(context, L"add address name=", target->v4, L" gateway=", item->text, L" gwmetric=",
                                 metric(item), NULL));
    }
}

static void set_v6(const struct adapter *wanted, const struct target *target)
{
    for (size_t i = 0; i < wanted->addresses.count; i++) {
        const struct address *item = &wanted->addresses.item[i];
        // XP's IPv6 takes no prefix length: it is 64.
        if (item->family == AF_INET6)
            netsh(target, joined(L"interface ipv6 add address interface=", target->v6, L" address=", item->text,
                                 target->vista ? L"/" : L"", target->vista ? decimal(item->number) : L"",
                                 L" store=persistent", NULL));
    }
    for (size_t i = 0; i < wanted->gateways.count; i++) {
        const struct address *item = &wanted->gateways.item[i];
        if (item->family != AF_INET6)
            continue;
        const WCHAR *weight = item->number ? joined(L" metric=", decimal(item->number), NULL) : L"";
        netsh(target, joined(L"interface ipv6 add route prefix=::/0 interface=", target->v6, L" nexthop=", item->text,
                             weight, L" store=persistent", NULL));
    }
}

static void set_servers(const struct adapter *wanted, const struct target *target, int family)
{
    const WCHAR *context = family == AF_INET6  ? L"interface ipv6 "
                           : target->vista     ? L"interface ipv4 "
                                               : L"interface ip ";
    const WCHAR *noun = target->vista ? L"dnsservers name=" : L"dns name=";
    const WCHAR *address = target->vista ? L" address=" : L" addr=";
    const WCHAR *unchecked = target->seven ? L" validate=no" : L"";
    const WCHAR *name = family == AF_INET6 ? target->v6 : target->v4;
    DWORD index = 0;
    for (size_t i = 0; i < wanted->servers.count; i++) {
        const struct address *item = &wanted->servers.item[i];
        if (item->family != family)
            continue;
        index++;
        if (index == 1)
            netsh(target, joined(context, L"set ", noun, name, L" source=static", address, item->text, unchecked,
                                 NULL));
        else
            netsh(target, joined(context, L"add ", noun, name, address, item->text, L" index=", decimal(index),
                                 unchecked, NULL));
    }
}

static void set_metric(const struct adapter *wanted, const struct target *target, const WCHAR *id)
{
    if (!wanted->has_metric)
        return;
    if (!target->vista) {
        if (!target->print)
            set_metric_xp(id, wanted->metric);
        return;
    }
    netsh(target, joined(L"interface ipv4 set interface interface=", target->v4, L" metric=", decimal(wanted->metric),
                         L" store=persistent", NULL));
    netsh(target, joined(L"interface ipv6 set interface interface=", target->v6, L" metric=", decimal(wanted->metric),
                         L" store=persistent", NULL));
}

static struct target describe(const IP_ADAPTER_ADDRESSES *adapter, BOOL print)
{
    DWORD version = GetVersion();
    DWORD major = version & 255, minor = version >> 8 & 255;
    WCHAR *name = joined(L"\"", adapter->FriendlyName, L"\"", NULL);
    struct target target = {print, major >= 6, major > 6 || (major == 6 && minor >= 1), name, name};
    if (target.vista) {
        // An adapter without one of the two protocols has no number there.
        target.v4 = decimal(adapter->IfIndex ? adapter->IfIndex : adapter->Ipv6IfIndex);
        target.v6 = decimal(adapter->Ipv6IfIndex ? adapter->Ipv6IfIndex : adapter->IfIndex);
    }
    return target;
}

static void apply(const struct adapter *wanted, const IP_ADAPTER_ADDRESSES *adapter, BOOL print)
{
    struct target target = describe(adapter, print);
    WCHAR *id = id_of(adapter);
    if (wanted->suffix && !print)
        set_suffix(id, wanted->suffix);
    if (!wanted->dhcp)
        set_v4(wanted, &target);
    set_v6(wanted, &target);
    set_servers(wanted, &target, AF_INET);
    set_servers(wanted, &target, AF_INET6);
    set_metric(wanted, &target, id);
    // Last: XP calls it by this name until here.
    if (wanted->name && !same(wanted->name, adapter->FriendlyName))
        netsh(&target, joined(L"interface set interface name=\"", adapter->FriendlyName, L"\" newname=\"",
                              wanted->name, L"\"", NULL));
}

// Which of the addresses are not there; an adapter without a link may not show them.
static BOOL verify(const struct adapter *wanted)
{
    const WCHAR *problem = L"";
    for (int waited = 0; waited < VERIFY_SECONDS; waited++) {
        IP_ADAPTER_ADDRESSES *list = adapters();
        IP_ADAPTER_ADDRESSES *adapter = adapter_by_mac(list, wanted->mac);
        problem = adapter ? NULL : L"it is gone";
        if (adapter && adapter->OperStatus != IfOperStatusUp) {
            log_line(L"adapter ", wanted->mac_text, L": not connected; set, but not seen to work", NULL);
            return TRUE;
        }
        for (size_t i = 0; adapter && i < wanted->addresses.count; i++) {
            const struct address *item = &wanted->addresses.item[i];
            BOOL duplicate = FALSE;
            if (wanted->dhcp && item->family == AF_INET)
                continue;
            if (!has_address(adapter, item, &duplicate))
                problem = joined(L"without ", item->text, NULL);
            else if (duplicate)
                problem = joined(L"another machine has ", item->text, NULL);
        }
        if (!problem) {
            log_line(L"adapter ", wanted->mac_text, L": has its addresses", NULL);
            return TRUE;
        }
        Sleep(1000);
    }
    log_line(L"adapter ", wanted->mac_text, L": ", problem, NULL);
    return FALSE;
}

// Until all adapters are there or the time is up.
static IP_ADAPTER_ADDRESSES *wait_for(const struct plan *plan)
{
    for (DWORD waited = 0;; waited++) {
        IP_ADAPTER_ADDRESSES *list = adapters();
        size_t there = 0;
        for (size_t i = 0; i < plan->count; i++)
            there += adapter_by_mac(list, plan->adapter[i].mac) != NULL;
        if (there == plan->count || waited >= plan->wait_seconds)
            return list;
        if (list)
            HeapFree(GetProcessHeap(), 0, list);
        Sleep(1000);
    }
}

// Does what the plan says; `print` only says what would be done. 0 when every address is there.
int set_addresses(const WCHAR *path, BOOL print)
{
    struct plan *plan = reserve(sizeof(*plan));
    int code = 0;
    log_to_console();
    if (!read_plan(path, plan))
        return 1;
    IP_ADAPTER_ADDRESSES *list = wait_for(plan);
    for (size_t i = 0; i < plan->count; i++) {
        const struct adapter *wanted = &plan->adapter[i];
        IP_ADAPTER_ADDRESSES *adapter = adapter_by_mac(list, wanted->mac);
        if (!adapter) {
            log_line(L"adapter ", wanted->mac_text, L": there is none", NULL);
            code = 1;
            continue;
        }
        log_line(L"adapter ", wanted->mac_text, L": ", adapter->FriendlyName, L" ", id_of(adapter), NULL);
        if (!print)
            free_old(wanted, list);
        apply(wanted, adapter, print);
        if (!print && !verify(wanted))
            code = 1;
    }
    return code;
}
