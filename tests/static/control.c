/* A static program that asks glibc for a name. */
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>

int main(void) {
    struct addrinfo *found;
    getaddrinfo("localhost", NULL, NULL, &found);
    getpwnam("nobody");
    return 0;
}
