// The log: lines of ours in UTF-8 with their time in UTC, between them whatever the scripts say. Scripts write to the
// same handle, which appends: no pipe that somebody would have to empty.

#include "v2v.h"
#include <stdarg.h>

static HANDLE file = INVALID_HANDLE_VALUE;
static HANDLE console = INVALID_HANDLE_VALUE;

// A file of one name only, and no link: %SystemRoot%\Temp is writable for everybody.
static BOOL is_plain(HANDLE handle)
{
    BY_HANDLE_FILE_INFORMATION info;
    return GetFileInformationByHandle(handle, &info) && info.nNumberOfLinks == 1 &&
           !(info.dwFileAttributes & (FILE_ATTRIBUTE_REPARSE_POINT | FILE_ATTRIBUTE_DIRECTORY));
}

BOOL log_open(const WCHAR *path)
{
    SECURITY_ATTRIBUTES inherited = {sizeof(inherited), NULL, TRUE};
    HANDLE handle = CreateFileW(path, FILE_APPEND_DATA | FILE_READ_ATTRIBUTES | SYNCHRONIZE,
                                FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, &inherited, OPEN_ALWAYS,
                                FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (handle == INVALID_HANDLE_VALUE)
        return FALSE;
    if (!is_plain(handle)) {
        CloseHandle(handle);
        return FALSE;
    }
    file = handle;
    return TRUE;
}

// Lines go to standard output instead.
void log_to_console(void)
{
    console = GetStdHandle(STD_OUTPUT_HANDLE);
}

// The log, for the output of children; INVALID_HANDLE_VALUE when there is none.
HANDLE log_handle(void)
{
    return file != INVALID_HANDLE_VALUE ? file : console;
}

static WCHAR *two(WORD number)
{
    return joined(number < 10 ? L"0" : L"", decimal(number), NULL);
}

static WCHAR *now(void)
{
    SYSTEMTIME t;
    GetSystemTime(&t);
    return joined(decimal(t.wYear), L"-", two(t.wMonth), L"-", two(t.wDay), L"T", two(t.wHour), L":", two(t.wMinute),
                  L":", two(t.wSecond), L"Z ", NULL);
}

static void put(const WCHAR *text)
{
    int len = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    if (len < 2 || log_handle() == INVALID_HANDLE_VALUE)
        return;
    char *bytes = reserve((size_t)len);
    WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, len, NULL, NULL);
    DWORD written;
    WriteFile(log_handle(), bytes, (DWORD)len - 1, &written, NULL);
    HeapFree(GetProcessHeap(), 0, bytes);
}

void log_line(const WCHAR *first, ...)
{
    va_list list;
    WCHAR *line = file != INVALID_HANDLE_VALUE ? now() : L"";
    va_start(list, first);
    for (const WCHAR *text = first; text; text = va_arg(list, const WCHAR *))
        line = joined(line, text, NULL);
    va_end(list);
    put(joined(line, L"\r\n", NULL));
}

void log_error(const WCHAR *what, const WCHAR *object, DWORD error)
{
    log_line(what, L" ", object, L": error ", decimal(error), NULL);
}
