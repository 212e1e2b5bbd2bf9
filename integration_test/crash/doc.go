// Package crash takes the machine away from a running server: kill -9 at the worst
// instant it can find, and a disk without room. What was acknowledged before has to
// hold afterwards. The kernel's page cache survives a kill, so this room says
// nothing about power cuts; storage's own tests do.
package crash
