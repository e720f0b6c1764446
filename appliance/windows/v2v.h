// Declarations shared by all parts of v2v-firstboot.exe, the program that a converted Windows runs at its first boot.
//
// One source for Windows XP to 11. It calls kernel32, advapi32 and iphlpapi only, no C run-time library and nothing that
// XP lacks (what is newer is looked up by name), so that nothing can be missing when it starts. The 32-bit build also
// serves ARM64. Memory is not given back: a run needs some kilobytes and ends.

#ifndef V2V_H
#define V2V_H

#define WIN32_LEAN_AND_MEAN
// Structures of Vista; functions of XP.
#define _WIN32_WINNT 0x0600
#include <winsock2.h>
#include <windows.h>

#define SERVICE_NAME L"v2v-firstboot"
// How often the guest is restarted, at most, whatever the scripts ask for.
#define REBOOTS_MAX 2u

// text.c
size_t length(const WCHAR *text);
BOOL same(const WCHAR *a, const WCHAR *b);
int compare(const WCHAR *a, const WCHAR *b);
BOOL ends_with(const WCHAR *text, const WCHAR *end);
WCHAR *joined(const WCHAR *first, ...) __attribute__((sentinel));
WCHAR *part(const WCHAR *from, size_t len);
WCHAR *decimal(DWORD number);
WCHAR *from_utf8(const char *bytes, size_t len);
BOOL to_number(const WCHAR *text, DWORD *number);
void *reserve(size_t len);
int arguments(WCHAR *line, WCHAR **words, int most);

// log.c
BOOL log_open(const WCHAR *path);
void log_line(const WCHAR *first, ...) __attribute__((sentinel));
void log_error(const WCHAR *what, const WCHAR *object, DWORD error);
HANDLE log_handle(void);
void log_to_console(void);

// files.c
BOOL exists(const WCHAR *path);
char *read_file(const WCHAR *path, size_t most, size_t *len);
BOOL write_file(const WCHAR *path, const void *bytes, DWORD len);
void remove_below(const WCHAR *dir, const WCHAR *but);

// process.c
enum outcome { RAN, NOT_STARTED, TIMED_OUT, TOO_LOUD, STOPPED };
enum outcome run_command(const WCHAR *line, const WCHAR *dir, DWORD seconds, HANDLE stop, DWORD *code);
WCHAR *system_program(const WCHAR *name);

// scripts.c
struct session {
    const WCHAR *dir;    // has scripts\, done\, state and lock
    DWORD timeout;       // seconds; 0: as each script says
    HANDLE stop;         // set when the service is to stop
};
enum verdict { DONE, REBOOT, INTERRUPTED, BUSY, FAILED };
enum verdict run_scripts(const struct session *session);

// service.c
int run_service(void);

// network.c
int set_addresses(const WCHAR *plan, BOOL print);

#endif
