// The adapters that are there, by GetAdaptersAddresses (XP and later).

#include "network.h"

// Tries to get a list that did not grow meanwhile.
#define TRIES 5

// All adapters with their addresses; NULL when there are none.
IP_ADAPTER_ADDRESSES *adapters(void)
{
    ULONG len = 32768;
    for (int i = 0; i < TRIES; i++) {
        IP_ADAPTER_ADDRESSES *list = reserve(len);
        ULONG flags = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_SKIP_DNS_SERVER;
        ULONG error = GetAdaptersAddresses(AF_UNSPEC, flags, NULL, list, &len);
        if (error == NO_ERROR)
            return list;
        HeapFree(GetProcessHeap(), 0, list);
        if (error != ERROR_BUFFER_OVERFLOW)
            return NULL;
    }
    return NULL;
}

// A team and its members have one MAC; only what carries IP has an index.
IP_ADAPTER_ADDRESSES *adapter_by_mac(IP_ADAPTER_ADDRESSES *list, const unsigned char *mac)
{
    for (; list; list = list->Next) {
        if (list->PhysicalAddressLength != MAC_LEN || (!list->IfIndex && !list->Ipv6IfIndex))
            continue;
        int i = 0;
        while (i < MAC_LEN && list->PhysicalAddress[i] == mac[i])
            i++;
        if (i == MAC_LEN)
            return list;
    }
    return NULL;
}

// NetCfgInstanceId with its braces.
WCHAR *id_of(const IP_ADAPTER_ADDRESSES *adapter)
{
    size_t len = 0;
    while (adapter->AdapterName[len])
        len++;
    return from_utf8(adapter->AdapterName, len);
}

BOOL is_present(IP_ADAPTER_ADDRESSES *list, const WCHAR *id)
{
    for (; list; list = list->Next)
        if (same(id_of(list), id))
            return TRUE;
    return FALSE;
}

// Another machine on the network may answer for it: `duplicate`.
BOOL has_address(const IP_ADAPTER_ADDRESSES *adapter, const struct address *address, BOOL *duplicate)
{
    const IP_ADAPTER_UNICAST_ADDRESS *have = adapter->FirstUnicastAddress;
    for (; have; have = have->Next) {
        const struct sockaddr *socket = have->Address.lpSockaddr;
        const unsigned char *bytes;
        int len = 4, i = 0;
        if (socket->sa_family != address->family)
            continue;
        if (address->family == AF_INET) {
            bytes = (const unsigned char *)&((const struct sockaddr_in *)socket)->sin_addr;
        } else {
            bytes = (const unsigned char *)&((const struct sockaddr_in6 *)socket)->sin6_addr;
            len = 16;
        }
        while (i < len && bytes[i] == address->bytes[i])
            i++;
        if (i == len) {
            *duplicate = have->DadState == IpDadStateDuplicate;
            return TRUE;
        }
    }
    return FALSE;
}
