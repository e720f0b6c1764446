// The Windows service: answers the service control manager at once, runs the scripts, and takes itself away.

#include "v2v.h"

// How long a reboot that was asked for may be refused (early at boot nobody takes the request).
#define REBOOT_PATIENCE_SECONDS 120u
// ERROR_SHUTDOWN_IS_SCHEDULED of Vista and later, which not every SDK names.
#define ALREADY_SCHEDULED 1190u

static SERVICE_STATUS_HANDLE manager;
static SERVICE_STATUS status;
static HANDLE stop;

static void report(DWORD state)
{
    status.dwServiceType = SERVICE_WIN32_OWN_PROCESS;
    status.dwCurrentState = state;
    status.dwControlsAccepted = state == SERVICE_RUNNING ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN : 0;
    status.dwWaitHint = state == SERVICE_STOP_PENDING ? 20000 : 0;
    SetServiceStatus(manager, &status);
}

static DWORD WINAPI control(DWORD code, DWORD event, void *data, void *context)
{
    (void)event;
    (void)data;
    (void)context;
    switch (code) {
    case SERVICE_CONTROL_STOP:
    case SERVICE_CONTROL_SHUTDOWN:
        report(SERVICE_STOP_PENDING);
        SetEvent(stop);
        return NO_ERROR;
    case SERVICE_CONTROL_INTERROGATE:
        SetServiceStatus(manager, &status);
        return NO_ERROR;
    default:
        return ERROR_CALL_NOT_IMPLEMENTED;
    }
}

// Folder of this program, its path in `path`.
static WCHAR *own_dir(WCHAR **path)
{
    WCHAR name[1024];
    DWORD len = GetModuleFileNameW(NULL, name, 1024);
    if (len == 0 || len >= 1023)
        return NULL;
    *path = part(name, len);
    while (len && name[len - 1] != L'\\')
        len--;
    return len ? part(name, len - 1) : NULL;
}

// %SystemRoot%\Temp, else beside the program.
static WCHAR *open_log(const WCHAR *dir)
{
    WCHAR root[MAX_PATH];
    UINT len = GetWindowsDirectoryW(root, MAX_PATH);
    if (len && len < MAX_PATH) {
        WCHAR *temp = joined(root, L"\\Temp", NULL);
        WCHAR *path = joined(temp, L"\\v2v-firstboot.log", NULL);
        CreateDirectoryW(temp, NULL);
        if (log_open(path))
            return path;
    }
    WCHAR *path = joined(dir, L"\\v2v-firstboot.log", NULL);
    log_open(path);
    return path;
}

static void allow_shutdown(void)
{
    HANDLE token;
    TOKEN_PRIVILEGES wanted;
    memset(&wanted, 0, sizeof(wanted));
    wanted.PrivilegeCount = 1;
    wanted.Privileges[0].Attributes = SE_PRIVILEGE_ENABLED;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY, &token))
        return;
    if (LookupPrivilegeValueW(NULL, L"SeShutdownPrivilege", &wanted.Privileges[0].Luid))
        AdjustTokenPrivileges(token, FALSE, &wanted, 0, NULL, NULL);
    CloseHandle(token);
}

static void reboot(void)
{
    DWORD error = 0;
    allow_shutdown();
    log_line(L"the guest is restarted", NULL);
    for (DWORD waited = 0; waited < REBOOT_PATIENCE_SECONDS; waited += 5) {
        DWORD reason = SHTDN_REASON_MAJOR_OPERATINGSYSTEM | SHTDN_REASON_MINOR_RECONFIG | SHTDN_REASON_FLAG_PLANNED;
        if (InitiateSystemShutdownExW(NULL, L"The conversion to KVM goes on after a restart.", 5, TRUE, TRUE, reason))
            return;
        error = GetLastError();
        if (error == ERROR_SHUTDOWN_IN_PROGRESS || error == ALREADY_SCHEDULED)
            return;
        if (WaitForSingleObject(stop, 5000) == WAIT_OBJECT_0)
            return;
    }
    log_error(L"restarting", L"the guest; the rest is done at its next boot", error);
}

static void delete_service(void)
{
    SC_HANDLE services = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
    SC_HANDLE service = services ? OpenServiceW(services, SERVICE_NAME, DELETE | SERVICE_CHANGE_CONFIG) : NULL;
    if (!service || !DeleteService(service)) {
        log_error(L"deleting", L"the service", GetLastError());
        // The next best: it does not start again.
        if (service)
            ChangeServiceConfigW(service, SERVICE_NO_CHANGE, SERVICE_DISABLED, SERVICE_NO_CHANGE, NULL, NULL, NULL,
                                 NULL, NULL, NULL, NULL);
    }
    if (service)
        CloseServiceHandle(service);
    if (services)
        CloseServiceHandle(services);
}

// Everything goes but the log; the program itself, its folder and the one above (if nothing else is in it) at the next
// boot.
static void take_away(const WCHAR *dir, const WCHAR *path)
{
    size_t len = length(dir);
    delete_service();
    remove_below(dir, path + len + 1);
    MoveFileExW(path, NULL, MOVEFILE_DELAY_UNTIL_REBOOT);
    MoveFileExW(dir, NULL, MOVEFILE_DELAY_UNTIL_REBOOT);
    while (len && dir[len - 1] != L'\\')
        len--;
    if (len > 1)
        MoveFileExW(part(dir, len - 1), NULL, MOVEFILE_DELAY_UNTIL_REBOOT);
    log_line(L"all scripts have run; the service is removed", NULL);
}

static void work(void)
{
    WCHAR *path = NULL;
    WCHAR *dir = own_dir(&path);
    if (!dir)
        return;
    WCHAR *log = open_log(dir);
    SetEnvironmentVariableW(L"V2V_DIR", dir);
    SetEnvironmentVariableW(L"V2V_EXE", path);
    SetEnvironmentVariableW(L"V2V_LOG", log);
    log_line(L"first boot: ", dir, NULL);
    struct session session = {dir, 0, stop};
    switch (run_scripts(&session)) {
    case DONE:
        take_away(dir, path);
        break;
    case REBOOT:
        reboot();
        break;
    case INTERRUPTED:
        log_line(L"stopped; the rest is done at the next start", NULL);
        break;
    case BUSY:
    case FAILED:
        break;
    }
}

static void WINAPI service_main(DWORD count, WCHAR **words)
{
    (void)count;
    (void)words;
    manager = RegisterServiceCtrlHandlerExW(SERVICE_NAME, control, NULL);
    if (!manager)
        return;
    report(SERVICE_RUNNING);
    work();
    report(SERVICE_STOPPED);
}

// Called by the service control manager; elsewhere it fails.
int run_service(void)
{
    SERVICE_TABLE_ENTRYW table[] = {{SERVICE_NAME, service_main}, {NULL, NULL}};
    stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!stop || !StartServiceCtrlDispatcherW(table))
        return (int)GetLastError();
    return 0;
}
