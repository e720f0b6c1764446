// v2v-firstboot.exe: what it can be asked for.
//
//   service                       the Windows service (service.c)
//   network [--print] PLAN        addresses for the adapters (network.c)
//   --run DIR [--timeout SECONDS] the scripts of DIR without a service: for tests. Ends with 0 when all have run, 3010
//                                 when the guest should be restarted and this called again, 2 when another one runs

#include "v2v.h"

#define WORDS_MAX 16

static int run_here(const WCHAR *dir, DWORD seconds)
{
    WCHAR path[1024];
    WCHAR full[1024];
    DWORD len = GetFullPathNameW(dir, 1024, full, NULL);
    if (len == 0 || len >= 1024)
        return 1;
    WCHAR *log = joined(full, L"\\v2v-firstboot.log", NULL);
    if (!log_open(log) || GetModuleFileNameW(NULL, path, 1024) == 0)
        return 1;
    SetEnvironmentVariableW(L"V2V_DIR", full);
    SetEnvironmentVariableW(L"V2V_EXE", path);
    SetEnvironmentVariableW(L"V2V_LOG", log);
    struct session session = {full, seconds, NULL};
    switch (run_scripts(&session)) {
    case DONE:
        remove_below(full, L"v2v-firstboot.log");
        log_line(L"all scripts have run", NULL);
        return 0;
    case REBOOT:
        log_line(L"the guest would be restarted now", NULL);
        return 3010;
    case BUSY:
        return 2;
    default:
        return 1;
    }
}

static int usage(void)
{
    log_to_console();
    log_line(L"usage: v2v-firstboot service | network [--print] PLAN | --run DIR [--timeout SECONDS]", NULL);
    return 1;
}

void v2v_start(void)
{
    WCHAR *words[WORDS_MAX];
    int count = arguments(joined(GetCommandLineW(), NULL), words, WORDS_MAX);
    DWORD seconds = 0;
    int code;
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
    if (count == 2 && same(words[1], L"service"))
        code = run_service();
    else if (count == 3 && same(words[1], L"network"))
        code = set_addresses(words[2], FALSE);
    else if (count == 4 && same(words[1], L"network") && same(words[2], L"--print"))
        code = set_addresses(words[3], TRUE);
    else if (count == 3 && same(words[1], L"--run"))
        code = run_here(words[2], 0);
    else if (count == 5 && same(words[1], L"--run") && same(words[3], L"--timeout") && to_number(words[4], &seconds))
        code = run_here(words[2], seconds);
    else
        code = usage();
    ExitProcess((UINT)code);
}
