package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed schema.sql
var schema string

// schemaVersion is the version of the tables and functions in schema.sql that this program needs.
const schemaVersion = 2

// ErrNoTables means that the database has no tables of Keymill, and that Config.Create is not set.
var ErrNoTables = errors.New("the database has no tables of Keymill")

// Schema returns the SQL that makes the tables and functions, for psql. It can be run again.
func Schema() string { return schema }

// checkSchema makes the schema if that is allowed and it is missing, and refuses another version.
func (e *Engine) checkSchema(ctx context.Context, create bool) error {
	version, oldest, err := e.schemaVersions(ctx)
	if err == nil && version == 0 {
		if !create {
			return fmt.Errorf("%s: %w", e.target, ErrNoTables)
		}
		if err := e.createSchema(ctx); err != nil {
			return err
		}
		version, oldest, err = e.schemaVersions(ctx)
	}
	switch {
	case err != nil:
		return err
	case version < schemaVersion:
		return fmt.Errorf("%s: the tables have schema %d and this program needs schema %d. As their owner, run what `keymill migrate --print` prints", e.target, version, schemaVersion)
	case oldest > schemaVersion:
		return fmt.Errorf("%s: the tables have schema %d, which a newer version of Keymill made, and this program reads schema %d. Use a newer version", e.target, version, schemaVersion)
	}
	return e.checkRights(ctx)
}

// schemaVersions returns the version of the schema and the oldest program that can use it, or zeros if
// there is none.
func (e *Engine) schemaVersions(ctx context.Context) (version, oldest int, err error) {
	err = e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
		var there bool
		err := c.QueryRow(ctx, `SELECT pg_catalog.to_regclass('keymill.schema') IS NOT NULL`).Scan(&there)
		if err != nil || !there {
			return err
		}
		return c.QueryRow(ctx, `SELECT version, oldest FROM keymill.schema`).Scan(&version, &oldest)
	})
	return version, oldest, err
}

// createSchema runs schema.sql. Nodes that do so at the same time wait for each other.
func (e *Engine) createSchema(ctx context.Context) error {
	err := e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
		defer end(c, "ROLLBACK") // after an error in the middle
		_, err := c.Conn().PgConn().Exec(ctx, schema).ReadAll()
		return err
	})
	if hasCode(err, codeNoRights) {
		return fmt.Errorf("%s: the role may not create the tables. As the owner of the database, run what `keymill migrate --print` prints, for example with psql: %s",
			e.target, oneLine(serverError(err).Message))
	}
	return err
}

// checkRights refuses tables and functions that the role cannot use, or that are not those of schema.sql.
func (e *Engine) checkRights(ctx context.Context) error {
	const query = `
		SELECT
			coalesce((SELECT pg_catalog.string_agg(p || ' on ' || t, ', ')
				FROM pg_catalog.unnest(ARRAY['keymill.record', 'keymill.node']) AS t,
				     pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
				WHERE NOT pg_catalog.has_table_privilege(t, p)),
				(SELECT pg_catalog.string_agg('EXECUTE on ' || f, ', ')
				FROM pg_catalog.unnest(ARRAY['keymill.compare_v1', 'keymill.commit_v2']) AS f
				WHERE NOT pg_catalog.has_function_privilege(pg_catalog.to_regproc(f), 'EXECUTE')), ''),
			coalesce((SELECT pg_catalog.string_agg(f, ', ')
				FROM pg_catalog.unnest(ARRAY['keymill.compare_v1', 'keymill.commit_v2']) AS f
				WHERE pg_catalog.to_regproc(f) IS NULL), ''),
			EXISTS (SELECT FROM pg_catalog.pg_attribute
				WHERE attrelid = 'keymill.record'::pg_catalog.regclass AND attname = 'k'
				AND attcollation = 'pg_catalog."C"'::pg_catalog.regcollation)`
	var rights, functions string
	var sorted bool
	err := e.retry(ctx, e.commits, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, query).Scan(&rights, &functions, &sorted)
	})
	switch {
	case err != nil:
		return err
	case rights != "":
		return fmt.Errorf("%s: the role lacks %s. Grant it as the last lines of `keymill migrate --print` say", e.target, rights)
	case functions != "":
		return fmt.Errorf("%s: the function %s is missing. As the owner of the tables, run what `keymill migrate --print` prints", e.target, functions)
	case !sorted:
		return fmt.Errorf(`%s: the column k of keymill.record has not the collation "C", so its keys are in another order. Make the tables with what `+"`keymill migrate --print` prints", e.target)
	}
	return nil
}
