// Children: hidden, their output in the log, ended with all that they started when their time is up.

#include "v2v.h"

// Output of one child beyond this is a loop: the log must not fill the guest's disk.
#define OUTPUT_MAX (64ull << 20)

// Path of a program of the system, of the native architecture: a 32-bit process on a 64-bit Windows sees another
// System32, and reaches the native one by the name Sysnative (Vista and later).
WCHAR *system_program(const WCHAR *name)
{
    WCHAR root[MAX_PATH];
    UINT len = GetWindowsDirectoryW(root, MAX_PATH);
    if (len == 0 || len >= MAX_PATH)
        return joined(name, NULL);
    WCHAR *native = joined(root, L"\\Sysnative\\", name, NULL);
    return exists(native) ? native : joined(root, L"\\System32\\", name, NULL);
}

static ULONGLONG log_size(void)
{
    LARGE_INTEGER size;
    return GetFileSizeEx(log_handle(), &size) && size.QuadPart > 0 ? (ULONGLONG)size.QuadPart : 0;
}

static void end(HANDLE process, HANDLE job)
{
    if (!job || !TerminateJobObject(job, ERROR_TIMEOUT))
        TerminateProcess(process, ERROR_TIMEOUT);
    WaitForSingleObject(process, 10000);
}

static enum outcome wait(HANDLE process, HANDLE job, DWORD seconds, HANDLE stop)
{
    HANDLE events[2] = {process, stop};
    ULONGLONG before = log_size();
    for (DWORD waited = 0;; waited++) {
        DWORD event = WaitForMultipleObjects(stop ? 2 : 1, events, FALSE, 1000);
        enum outcome outcome;
        if (event == WAIT_OBJECT_0)
            return RAN;
        if (event == WAIT_OBJECT_0 + 1)
            outcome = STOPPED;
        else if (log_size() > before + OUTPUT_MAX)
            outcome = TOO_LOUD;
        else if (waited >= seconds)
            outcome = TIMED_OUT;
        else
            continue;
        end(process, job);
        return outcome;
    }
}

// Runs a command line in `dir` for at most `seconds`. What it leaves running after its own end goes on.
enum outcome run_command(const WCHAR *line, const WCHAR *dir, DWORD seconds, HANDLE stop, DWORD *code)
{
    SECURITY_ATTRIBUTES inherited = {sizeof(inherited), NULL, TRUE};
    HANDLE nothing =
        CreateFileW(L"NUL", GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, &inherited, OPEN_EXISTING, 0, NULL);
    STARTUPINFOW start;
    PROCESS_INFORMATION child;
    memset(&start, 0, sizeof(start));
    start.cb = sizeof(start);
    start.dwFlags = STARTF_USESTDHANDLES | STARTF_USESHOWWINDOW;
    start.wShowWindow = SW_HIDE;
    start.hStdInput = nothing;
    start.hStdOutput = start.hStdError = log_handle();
    BOOL started = CreateProcessW(NULL, joined(line, NULL), NULL, NULL, TRUE, CREATE_NO_WINDOW | CREATE_SUSPENDED,
                                  NULL, dir, &start, &child);
    *code = started ? 0 : GetLastError();
    CloseHandle(nothing);
    if (!started)
        return NOT_STARTED;
    HANDLE job = CreateJobObjectW(NULL, NULL);
    // Before Windows 8 a process is in one job only; then its children are left alone.
    if (job && !AssignProcessToJobObject(job, child.hProcess)) {
        CloseHandle(job);
        job = NULL;
    }
    ResumeThread(child.hThread);
    enum outcome outcome = wait(child.hProcess, job, seconds, stop);
    GetExitCodeProcess(child.hProcess, code);
    if (job)
        CloseHandle(job);
    CloseHandle(child.hThread);
    CloseHandle(child.hProcess);
    return outcome;
}
