// The scripts, NNN-name.bat, in the order of their names, each once.
//
// Before a script runs it is moved to done\: a machine that is reset in the middle never runs it twice. One whose name
// ends in .again.bat is moved after it ran, and is tried AGAIN_MAX times. The first digit of the number is the phase; a
// script that ends with one of the codes below gets its reboot when the phase is over.
//
//   scripts\NNN-name.bat --move--> done\NNN-name.bat --run--> next       scripts\NNN-name.again.bat --run--> --move-->
//                                          |                               ^    |
//                                        reset: next                       +- reset, at most AGAIN_MAX times

#include "v2v.h"

#define AGAIN L".again.bat"
#define AGAIN_MAX 3u
// What a script may use that says nothing of it.
#define TIMEOUT_SECONDS 1800u
// Windows Installer's codes, and 249 of virtio-win's and cloud tools.
#define REBOOT_REQUIRED 3010u
#define REBOOT_INITIATED 1641u
#define REBOOT_ASKED 249u
#define STATE_MAGIC 0x32763276u

// What has to survive a reset.
struct state {
    DWORD magic;
    DWORD reboots;
    DWORD attempts;         // of the script `name`
    WCHAR name[MAX_PATH];
};

static WCHAR *in(const struct session *session, const WCHAR *name)
{
    return joined(session->dir, L"\\", name, NULL);
}

static void load(const struct session *session, struct state *state)
{
    size_t len;
    char *bytes = read_file(in(session, L"state"), sizeof(*state), &len);
    memset(state, 0, sizeof(*state));
    if (bytes && len == sizeof(*state) && ((struct state *)bytes)->magic == STATE_MAGIC)
        memcpy(state, bytes, sizeof(*state));
    state->magic = STATE_MAGIC;
    state->name[MAX_PATH - 1] = 0;
}

static BOOL save(const struct session *session, const struct state *state)
{
    if (write_file(in(session, L"state"), state, sizeof(*state)))
        return TRUE;
    log_error(L"writing", in(session, L"state"), GetLastError());
    return FALSE;
}

// The first name behind `last`; NULL when there is none.
static WCHAR *next(const struct session *session, const WCHAR *last)
{
    WIN32_FIND_DATAW found;
    WCHAR *best = NULL;
    HANDLE search = FindFirstFileW(in(session, L"scripts\\*.bat"), &found);
    if (search == INVALID_HANDLE_VALUE)
        return NULL;
    do {
        const WCHAR *name = found.cFileName;
        if (found.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT))
            continue;
        // *.bat also finds short names of others.
        if (!ends_with(name, L".bat") || compare(name, last) <= 0 || (best && compare(name, best) >= 0))
            continue;
        best = joined(name, NULL);
    } while (FindNextFileW(search, &found));
    FindClose(search);
    return best;
}

static BOOL is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

// `rem v2v-timeout SECONDS` in the first kilobytes of a script.
static DWORD timeout(const struct session *session, const WCHAR *path)
{
    static const char mark[] = "rem v2v-timeout ";
    size_t len, mark_len = sizeof(mark) - 1;
    if (session->timeout)
        return session->timeout;
    char *bytes = read_file(path, 16u << 20, &len);
    if (len > 4096)
        len = 4096;
    for (size_t at = 0; bytes && at + mark_len < len; at++) {
        size_t match = 0;
        while (match < mark_len && bytes[at + match] == mark[match])
            match++;
        if (match < mark_len || (at > 0 && !is_blank(bytes[at - 1])))
            continue;
        DWORD seconds = 0;
        for (at += mark_len; at < len && bytes[at] >= '0' && bytes[at] <= '9' && seconds < 1000000; at++)
            seconds = seconds * 10 + (DWORD)(bytes[at] - '0');
        return seconds ? seconds : TIMEOUT_SECONDS;
    }
    return TIMEOUT_SECONDS;
}

static BOOL move(const struct session *session, const WCHAR *name)
{
    WCHAR *from = joined(session->dir, L"\\scripts\\", name, NULL);
    WCHAR *to = joined(session->dir, L"\\done\\", name, NULL);
    if (MoveFileExW(from, to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
        return TRUE;
    log_error(L"moving", from, GetLastError());
    return FALSE;
}

// Runs cmd.exe on it, without the AutoRun of the registry; says whether a reboot is wanted.
static enum outcome run(const struct session *session, const WCHAR *name, const WCHAR *path, BOOL *reboot)
{
    WCHAR *line = joined(L"\"", system_program(L"cmd.exe"), L"\" /d /s /c \"\"", path, L"\"\"", NULL);
    DWORD code, seconds = timeout(session, path), began = GetTickCount();
    log_line(L"script ", name, L": begins", NULL);
    enum outcome outcome = run_command(line, session->dir, seconds, session->stop, &code);
    WCHAR *took = joined(L", after ", decimal((GetTickCount() - began) / 1000), L" s", NULL);
    switch (outcome) {
    case RAN:
        *reboot = code == REBOOT_REQUIRED || code == REBOOT_INITIATED || code == REBOOT_ASKED;
        log_line(L"script ", name, L": exit code ", decimal(code), *reboot ? L" (wants a reboot)" : L"", took, NULL);
        break;
    case NOT_STARTED:
        log_error(L"starting", line, code);
        break;
    case TIMED_OUT:
        log_line(L"script ", name, L": ended, its time is up", took, NULL);
        break;
    case TOO_LOUD:
        log_line(L"script ", name, L": ended, it wrote too much", took, NULL);
        break;
    case STOPPED:
        log_line(L"script ", name, L": interrupted", took, NULL);
        break;
    }
    return outcome;
}

// Counts the attempt on disk, runs it, moves it away.
static enum outcome run_again(const struct session *session, struct state *state, const WCHAR *name, BOOL *reboot)
{
    DWORD attempts = same(state->name, name) ? state->attempts : 0;
    if (attempts >= AGAIN_MAX || length(name) >= MAX_PATH) {
        log_line(L"script ", name, L": given up after ", decimal(attempts), L" attempts", NULL);
        move(session, name);
        return NOT_STARTED;
    }
    memcpy(state->name, name, (length(name) + 1) * sizeof(WCHAR));
    state->attempts = attempts + 1;
    if (!save(session, state))
        return NOT_STARTED;
    enum outcome outcome = run(session, name, joined(session->dir, L"\\scripts\\", name, NULL), reboot);
    if (outcome != STOPPED)
        move(session, name);
    return outcome;
}

static enum verdict run_all(const struct session *session)
{
    struct state state;
    WCHAR phase = 0;
    BOOL wanted = FALSE;
    load(session, &state);
    CreateDirectoryW(in(session, L"done"), NULL);
    for (const WCHAR *name = next(session, L"");; name = next(session, name)) {
        if (wanted && (!name || *name != phase)) {
            wanted = FALSE;
            if (state.reboots < REBOOTS_MAX) {
                state.reboots++;
                // Uncounted it could be for ever.
                if (save(session, &state))
                    return REBOOT;
            }
            log_line(L"no further reboot: ", decimal(state.reboots), L" were made", NULL);
        }
        if (!name)
            return DONE;
        phase = *name;
        BOOL reboot = FALSE;
        enum outcome outcome = NOT_STARTED;
        if (ends_with(name, AGAIN))
            outcome = run_again(session, &state, name, &reboot);
        else if (move(session, name))
            outcome = run(session, name, joined(session->dir, L"\\done\\", name, NULL), &reboot);
        if (outcome == STOPPED)
            return INTERRUPTED;
        wanted = wanted || reboot;
    }
}

// Runs what is left to run.
enum verdict run_scripts(const struct session *session)
{
    HANDLE lock = CreateFileW(in(session, L"lock"), GENERIC_WRITE, 0, NULL, CREATE_ALWAYS,
                              FILE_ATTRIBUTE_NORMAL | FILE_FLAG_DELETE_ON_CLOSE, NULL);
    if (lock == INVALID_HANDLE_VALUE) {
        DWORD error = GetLastError();
        log_error(L"locking", session->dir, error);
        return error == ERROR_SHARING_VIOLATION ? BUSY : FAILED;
    }
    enum verdict verdict = run_all(session);
    CloseHandle(lock);
    return verdict;
}
