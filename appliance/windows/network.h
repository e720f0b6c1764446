// What a plan of addresses says, and how the adapters of this machine are found.

#ifndef V2V_NETWORK_H
#define V2V_NETWORK_H

#include "v2v.h"
#include <ws2tcpip.h>
#include <iphlpapi.h>

#define ADAPTERS_MAX 32
#define ITEMS_MAX 32
#define MAC_LEN 6

// An address; `text` is as in the plan, without its prefix.
struct address {
    int family;              // AF_INET, AF_INET6
    unsigned char bytes[16]; // 4 of them for AF_INET
    DWORD number;            // prefix length of an address, metric of a gateway
    BOOL has_number;
    WCHAR *text;
};

struct items {
    struct address item[ITEMS_MAX];
    size_t count;
};

struct adapter {
    unsigned char mac[MAC_LEN];
    WCHAR *mac_text;
    WCHAR *name;
    WCHAR *suffix;
    WCHAR *old[ITEMS_MAX];
    size_t old_count;
    BOOL dhcp;
    DWORD metric;
    BOOL has_metric;
    struct items addresses, gateways, servers;
};

struct plan {
    struct adapter adapter[ADAPTERS_MAX];
    size_t count;
    DWORD wait_seconds;
};

// plan.c
BOOL read_plan(const WCHAR *path, struct plan *plan);
BOOL parse_address(const WCHAR *text, struct address *address);
WCHAR *mask_of(DWORD prefix);

// adapters.c
IP_ADAPTER_ADDRESSES *adapters(void);
IP_ADAPTER_ADDRESSES *adapter_by_mac(IP_ADAPTER_ADDRESSES *list, const unsigned char *mac);
BOOL is_present(IP_ADAPTER_ADDRESSES *list, const WCHAR *id);
BOOL has_address(const IP_ADAPTER_ADDRESSES *adapter, const struct address *address, BOOL *duplicate);
WCHAR *id_of(const IP_ADAPTER_ADDRESSES *adapter);

// interfaces.c
void free_old(const struct adapter *wanted, IP_ADAPTER_ADDRESSES *list);
void set_suffix(const WCHAR *id, const WCHAR *suffix);
void set_metric_xp(const WCHAR *id, DWORD metric);

#endif
