// Files: read whole, written so that a reset leaves the old or the new one, removed with all below them.

#include "v2v.h"

// Deeper folders than these are not ours.
#define DEPTH_MAX 16

BOOL exists(const WCHAR *path)
{
    return GetFileAttributesW(path) != INVALID_FILE_ATTRIBUTES;
}

// The content and a zero behind it; NULL when it cannot be read or is longer than `most`.
char *read_file(const WCHAR *path, size_t most, size_t *len)
{
    HANDLE handle =
        CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0, NULL);
    if (handle == INVALID_HANDLE_VALUE)
        return NULL;
    LARGE_INTEGER size;
    char *bytes = NULL;
    *len = 0;
    if (GetFileSizeEx(handle, &size) && size.QuadPart >= 0 && (ULONGLONG)size.QuadPart <= most) {
        bytes = reserve((size_t)size.QuadPart + 1);
        DWORD got = 0;
        if (!ReadFile(handle, bytes, (DWORD)size.QuadPart, &got, NULL))
            bytes = NULL;
        *len = got;
    }
    CloseHandle(handle);
    return bytes;
}

BOOL write_file(const WCHAR *path, const void *bytes, DWORD len)
{
    WCHAR *fresh = joined(path, L".new", NULL);
    HANDLE handle = CreateFileW(fresh, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_FLAG_WRITE_THROUGH, NULL);
    if (handle == INVALID_HANDLE_VALUE)
        return FALSE;
    DWORD written = 0;
    BOOL good = WriteFile(handle, bytes, len, &written, NULL) && written == len && FlushFileBuffers(handle);
    CloseHandle(handle);
    return good && MoveFileExW(fresh, path, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
}

static void remove_folder(const WCHAR *dir, const WCHAR *but, int depth)
{
    WIN32_FIND_DATAW found;
    HANDLE search = FindFirstFileW(joined(dir, L"\\*", NULL), &found);
    if (search == INVALID_HANDLE_VALUE)
        return;
    do {
        if (same(found.cFileName, L".") || same(found.cFileName, L"..") || (but && same(found.cFileName, but)))
            continue;
        WCHAR *path = joined(dir, L"\\", found.cFileName, NULL);
        BOOL folder = (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
        // What a junction points to is not ours.
        BOOL link = (found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0;
        if (folder && !link && depth < DEPTH_MAX)
            remove_folder(path, NULL, depth + 1);
        SetFileAttributesW(path, FILE_ATTRIBUTE_NORMAL);
        if (!(folder ? RemoveDirectoryW(path) : DeleteFileW(path)))
            MoveFileExW(path, NULL, MOVEFILE_DELAY_UNTIL_REBOOT);
    } while (FindNextFileW(search, &found));
    FindClose(search);
}

// Everything in `dir` but the file `but`; what is in use goes at the next boot.
void remove_below(const WCHAR *dir, const WCHAR *but)
{
    remove_folder(dir, but, 0);
}
