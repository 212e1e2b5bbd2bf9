// Package libcrypto signs RS256 with OpenSSL's libcrypto.so.3 of the machine, which takes half the time of crypto/rsa
// or less. It is built with the tag libcrypto, on Linux for amd64 and arm64, and needs no cgo. Without the tag the
// package has the same functions, and Supported returns false.
//
//	Choose ──▶ Open ──▶ child: dlopen, prove ──▶ report ──▶ the same file? ──▶ dlopen here
//	   │                                                                          │
//	   └──▶ Chooser.Signer(PKCS #8) ──▶ Key.Sign: EVP_PKEY_sign, verify with crypto/rsa, return
//
// # What is trusted, and when
//
// C code can end the process, and a wrong RSA signature can publish a factor of the key. So:
//
//   - A child process, which is this program executed again, loads the library first and proves it (proof.go). It has no
//     environment and no secrets. If it crashes, hangs or finds a difference, this process never loads the library.
//   - The file must be the one that the child has proven: the same device, inode, size, times and SHA-256, before and after
//     it is loaded (file.go). A library that an update has replaced on disk later does not matter to the process: the old
//     file stays mapped. One that was overwritten in place does: the next call can crash, as in every program that has it
//     mapped. Watch looks for that at each heartbeat; then the library is not called again, and Go signs.
//   - Every signature is verified with crypto/rsa before it is returned, with a public half that libcrypto never saw. After
//     one that is wrong the library is given up: no other is made with it in this process. Import tries a key with one
//     signature. If that is wrong, only the key is refused, and Go signs with it.
//   - The library gets a context of its own (OSSL_LIB_CTX) with the built-in default provider, and reads no configuration
//     file. Blinding stays on, as it is by default.
//
// # Memory
//
// Import copies a private half into memory of libcrypto. Each signature holds a reference. After Erase the last one
// frees the key, and libcrypto overwrites its numbers, unless the file of the library was overwritten. This is said of
// libcrypto's copy only: the garbage collector decides when memory of Go that had the key is used again.
package libcrypto
