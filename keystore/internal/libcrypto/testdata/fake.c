// A libcrypto with faults. It is linked with the real one, which does what is not written here. The first letter of the
// file FAULT says what goes wrong; without that file nothing does.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int inside; // signatures that are being made

static char fault(void) {
	char letter = 0;
	int f = open(FAULT, O_RDONLY);
	if (f >= 0 && read(f, &letter, 1) != 1) letter = 0;
	if (f >= 0) close(f);
	return letter;
}

static volatile int *volatile nowhere;

static void crash(void) { *nowhere = 1; }

static void hang(void) { for (;;) pause(); }

static void *real(const char *name) { return dlsym(dlopen(REAL, RTLD_NOW), name); }

__attribute__((constructor)) static void loaded(void) {
	switch (fault()) {
	case 'C': crash(); break;
	case 'A': abort();
	case 'H': hang(); break;
	case 'X': _exit(0);
	case 'G': dprintf(1, "....\n{\"Random\": ten}\n"); _exit(0);
	}
}

unsigned long OpenSSL_version_num(void) {
	switch (fault()) {
	case 'o': return 0x1010117fL;
	case 'n': return 0x40000000L;
	}
	return ((unsigned long (*)(void))real("OpenSSL_version_num"))();
}

void *d2i_AutoPrivateKey_ex(void **a, const unsigned char **p, long n, void *context, const char *q) {
	if (fault() == 'r') return NULL;
	return ((void *(*)(void **, const unsigned char **, long, void *, const char *))real("d2i_AutoPrivateKey_ex"))(a, p, n, context, q);
}

void *EVP_PKEY_CTX_new_from_pkey(void *context, void *key, const char *q) {
	if (fault() == 'm') return NULL;
	return ((void *(*)(void *, void *, const char *))real("EVP_PKEY_CTX_new_from_pkey"))(context, key, q);
}

void EVP_PKEY_free(void *key) {
	if (__atomic_load_n(&inside, __ATOMIC_SEQ_CST)) close(open(FAULT ".early", O_CREAT | O_WRONLY, 0600));
	close(open(FAULT ".freed", O_CREAT | O_WRONLY, 0600));
	((void (*)(void *))real("EVP_PKEY_free"))(key);
}

int EVP_PKEY_sign(void *operation, unsigned char *out, size_t *length, const unsigned char *in, size_t n) {
	int (*sign)(void *, unsigned char *, size_t *, const unsigned char *, size_t) = real("EVP_PKEY_sign");
	int ok;
	switch (fault()) {
	case 'f': return 0;
	case 'z': return 1;
	case 'l': *length = 1 << 20; return 1;
	case 'e': *length = 0; return 1;
	case 'w': ok = sign(operation, out, length, in, n); out[*length - 1] ^= 1; return ok;
	case 'g': memset(out, 7, *length); return 1;
	case 'c': crash(); return 1;
	case 'h': hang(); return 1;
	case 's':
		__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
		usleep(300000);
		ok = sign(operation, out, length, in, n);
		__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
		return ok;
	}
	return sign(operation, out, length, in, n);
}
