/* A name service module that kills whoever loads it. */
#include <signal.h>

__attribute__((constructor)) static void deadly(void) { raise(SIGSEGV); }
