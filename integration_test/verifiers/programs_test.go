package verifiers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// A program is a service in a process of its own, in a directory below this one. Environment
// variables configure it, and its first line of output is its URL.
type program struct {
	dir     string
	needs   func() error // returns an error that names what is not installed
	command []string
}

// programLibraries returns the verifiers in other languages.
func programLibraries() []library {
	return []library{
		{name: "simplejwt", algs: rsOnly, sight: seesAFlush, lacks: rsOnlyLacks, start: django().start,
			gaps:    []gap{ignoresType, breaksOnOKP, readsLoosely, keepsRevokedKey},
			settled: []gap{anyIssuer, anyAudience}},
		{name: "pyjwt", algs: all, sight: seesAFlush, start: pythonProgram("with_pyjwt.py", "jwt", "cryptography").start,
			gaps:    []gap{readsLoosely, keepsRevokedKey},
			settled: []gap{acceptsNoExp, ignoresType}},
		{name: "authlib", algs: all, sight: seesInTen, start: pythonProgram("with_authlib.py", "authlib").start,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{acceptsNoExp, acceptsExpired, ignoresNbf, anyIssuer, anyAudience, ignoresType}},
		{name: "python-jose", algs: noEd, sight: seesInTen, lacks: edOnly, start: pythonProgram("with_python_jose.py", "jose").start,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{acceptsNoExp, acceptsNoAudience, ignoresType, ignoresCrit}},
		{name: "node-jose", algs: all, sight: seesInTime, start: node("service.mjs", "jose").start,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType}},
		{name: "express-bearer", algs: all, sight: seesInTime, start: node("with_express.mjs", "express", "express-oauth2-jwt-bearer").start,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{forgivesSeconds, ignoresType}},
		{name: "fast-jwt", algs: all, sight: keepsItsKey, start: node("with_fast_jwt.mjs", "fast-jwt", "get-jwks").start,
			gaps:    []gap{readsLoosely, keepsRevokedKey},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType}},
		{name: "fastify-jwt", algs: all, sight: keepsItsKey, start: node("with_fastify.mjs", "fastify", "@fastify/jwt", "get-jwks").start,
			gaps:    []gap{readsLoosely, keepsRevokedKey},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType}},
		{name: "ruby-jwt", algs: all, sight: seesAlone, start: ruby("jwt", "rbnacl", "webrick").start,
			gaps:    []gap{readsLoosely},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType, ignoresCrit}},
		{name: "crypt-jwt", algs: all, sight: seesAlone, start: perl("Crypt::JWT").start,
			gaps:    []gap{readsLoosely},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType, ignoresCrit, takesJSON}},
		{name: "php", algs: all, sight: seesAlone, start: php("openssl", "sodium").start,
			gaps: []gap{takesOneClaim}},
		{name: "jose4j", algs: all, sight: seesAlone, start: jose4j().start,
			gaps:    []gap{takesSpareBits},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType, takesAnyAlgorithm}},
		{name: "apache", algs: noEd, sight: seesAFlush, lacks: edOnly, start: apache().start, least: 5 * time.Minute,
			gaps:    []gap{ignoresType, ignoresNbf, ignoresCrit, readsLoosely, keepsRevokedKey},
			es256:   []gap{takesAnyAlgorithm, takesPadding, takesLength},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience}},
		{name: "haproxy", algs: noEd, sight: seesNoKid, lacks: edOnly, start: haproxy().start, reloads: true,
			gaps:    []gap{takesSpareBits, slowToNewKeys, keepsRevokedKey},
			es256:   []gap{takesPadding},
			settled: []gap{acceptsNoExp, acceptsExpired, ignoresNbf, anyIssuer, anyAudience, ignoresType, ignoresCrit, ignoresAlg, takesOneClaim}},
	}
}

// startLimit is long, because tests share the machine.
const startLimit = 10 * time.Minute

const python = "/usr/bin/python3" // with Debian's packages

func django() program {
	return program{"django", pythonModules("rest_framework_simplejwt", "jwt", "cryptography"),
		[]string{python, "-I", "-B", "service.py"}}
}

// pythonProgram may import other files of its directory, which -I would forbid. It does not read
// packages of the user.
func pythonProgram(file string, modules ...string) program {
	return program{"python", pythonModules(modules...), []string{python, "-E", "-s", "-B", file}}
}

// apache is a Python program that starts Apache with mod_auth_openidc.
func apache() program {
	needs := func() error {
		for _, file := range []string{"/usr/sbin/apache2", "/usr/lib/apache2/modules/mod_auth_openidc.so", python} {
			if _, err := os.Stat(file); err != nil {
				return missing{file}
			}
		}
		return nil
	}
	return program{"apache", needs, []string{python, "-I", "-B", "service.py"}}
}

// haproxy is a Python program that starts HAProxy and brings its keys up to date.
func haproxy() program {
	needs := func() error {
		for _, file := range []string{"/usr/sbin/haproxy", python} {
			if _, err := os.Stat(file); err != nil {
				return missing{file}
			}
		}
		return nil
	}
	return program{"haproxy", needs, []string{python, "-I", "-B", "service.py"}}
}

// pythonModules finds modules without importing them, because an import takes a second.
func pythonModules(names ...string) func() error {
	const find = "import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
	return func() error {
		if exec.Command(python, append([]string{"-I", "-c", find}, names...)...).Run() != nil {
			return missing{"one of Debian's Python modules " + strings.Join(names, ", ")}
		}
		return nil
	}
}

func node(file string, packages ...string) program {
	needs := func() error {
		for _, p := range packages {
			if _, err := os.Stat(filepath.Join("node", "node_modules", p)); err != nil {
				return missing{"the npm package " + p}
			}
		}
		return nil
	}
	// Debian 12 has Node 18, where jose needs the flag.
	return program{"node", needs, []string{"node", "--experimental-global-webcrypto", file}}
}

func ruby(gems ...string) program {
	needs := func() error {
		if exec.Command("/usr/bin/ruby", append([]string{"-e", "ARGV.each { |name| gem name }"}, gems...)...).Run() != nil {
			return missing{"Debian's ruby or one of its packages of " + strings.Join(gems, ", ")}
		}
		return nil
	}
	return program{"ruby", needs, []string{"/usr/bin/ruby", "service.rb"}}
}

func perl(modules ...string) program {
	needs := func() error {
		if exec.Command("/usr/bin/perl", append([]string{"-e", "eval qq(require $_) or exit 1 for @ARGV"}, modules...)...).Run() != nil {
			return missing{"one of the Perl modules " + strings.Join(modules, ", ")}
		}
		return nil
	}
	return program{"perl", needs, []string{"/usr/bin/perl", "service.pl"}}
}

func php(extensions ...string) program {
	needs := func() error {
		const find = "foreach (array_slice($argv, 1) as $name) extension_loaded($name) or exit(1);"
		if exec.Command("/usr/bin/php", append([]string{"-r", find, "--"}, extensions...)...).Run() != nil {
			return missing{"Debian's php-cli"}
		}
		return nil
	}
	return program{"php", needs, []string{"/usr/bin/php", "service.php"}}
}

// jose4j is a Python program that runs the service of its page. The library is where scripts/install-deps unpacks it.
func jose4j() program {
	jars := []string{"java/lib/jose4j.jar", "/usr/share/java/slf4j-api.jar", "/usr/share/java/slf4j-nop.jar"}
	needs := func() error {
		for _, file := range append(jars, python) {
			if _, err := os.Stat(file); err != nil {
				return missing{file}
			}
		}
		if _, err := exec.LookPath("javac"); err != nil {
			return missing{"a JDK"}
		}
		return nil
	}
	return program{"java", needs, []string{python, "-I", "-B", "service.py", "lib/jose4j.jar:" + jars[1] + ":" + jars[2]}}
}

func (p program) start(t *testing.T, s settings) (url string, err error) {
	if err := p.needs(); err != nil {
		return "", err
	}
	keymill, err := server.Binary()
	if err == nil {
		keymill, err = filepath.Abs(keymill)
	}
	if err != nil {
		return "", err
	}
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(server.Environment(),
		"SERVICE_ISSUER="+s.issuer, "SERVICE_AUDIENCE="+s.audience, "SERVICE_ALG="+s.alg, "SERVICE_KEYMILL="+keymill, "SERVICE_DIRECTORY="+t.TempDir())
	if s.lifespan > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SERVICE_LIFESPAN=%d", s.lifespan/time.Second))
	}
	if s.bare {
		cmd.Env = append(cmd.Env, "SERVICE_BARE=yes")
	}
	cmd.Stderr = t.Output()
	return serving(t, cmd)
}

// serving is server.Serving for a program that may refuse to start, and for programs that start in
// parallel: only the test's own goroutine may end the test.
func serving(t *testing.T, cmd *exec.Cmd) (url string, err error) {
	stdout, w := io.Pipe()
	cmd.Stdout = w
	companion, err := server.Launch(cmd)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { companion.Close() })
	go func() { <-companion.Done(); w.Close() }()
	line := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stdout)
		first, _ := lines.ReadString('\n') // a partial line is no URL, which is checked below
		line <- strings.TrimSuffix(first, "\n")
		io.Copy(io.Discard, lines)
	}()
	select {
	case url = <-line:
	case <-time.After(startLimit):
		return "", fmt.Errorf("%s did not start in %v: %w", cmd, startLimit, context.DeadlineExceeded)
	}
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		return "", fmt.Errorf("%s printed %q, want its URL", cmd, url)
	}
	return url, nil
}
