package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/storage/postgres/postgrestest"
)

// pageBlock returns the first block of a language in a page of docs.
func pageBlock(t *testing.T, page, language, contains string) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(raw), "\n```"+language+"\n")[1:] {
		if block, _, _ := strings.Cut(part, "\n```"); strings.Contains(block, contains) {
			return block
		}
	}
	t.Fatalf("%s has no block of %s with %q", page, language, contains)
	return ""
}

// TestTheLinesOfThePageSetUpAServer: those for psql, and the settings, with a role and a database of their own.
func TestTheLinesOfThePageSetUpAServer(t *testing.T) {
	t.Parallel()
	db := postgrestest.Shared(t)
	p := newPlace(t)
	for statement := range strings.SplitSeq(pageBlock(t, "postgres.md", "text", "CREATE ROLE"), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			db.SQL(t, postgrestest.Superuser, strings.ReplaceAll(statement, "keymill", "keymill_page"))
		}
	}
	settings := strings.NewReplacer(
		"keymill@db.example.com/keymill", "keymill_page@"+db.Address()+"/keymill_page",
		"/var/lib/keymill", p.data, "127.0.0.1:8420", "127.0.0.1:0", "/etc/keymill/", p.dir+"/",
	).Replace(pageBlock(t, "postgres.md", "yaml", "store:"))
	if err := os.WriteFile(filepath.Join(p.dir, "store-password"), []byte("a long random password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "page.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	out := p.must(nil, "init", "--config", file)
	if !strings.Contains(out, "\ndatabase_id: ") || !strings.Contains(out, "postgres://keymill_page@") {
		t.Errorf("init prints %q", out)
	}
	c := p.startWith(append(p.env(), "KEYMILL_DATABASE_ID="+strings.Fields(out[strings.Index(out, "database_id: ")+13:])[0]), "serve", "--config", file)
	if c.ready() != 200 {
		t.Error("the server is not ready")
	}
	if _, errs, code := p.run("init", "--config", file); code != 1 || !strings.Contains(errs, "holds a store already") && !strings.Contains(errs, "in use") {
		t.Errorf("init again: code %d, %s", code, errs)
	}
}
