package serve

import "testing"

// TestWhoIsTrustedAsTheServer is the table of listener, owner of the store and user of the command.
func TestWhoIsTrustedAsTheServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		listener, owner, us int
		want                bool
	}{
		{"the server's user", 1001, 1001, 1001, true},
		{"root for the server's user", 1001, 1001, 0, true},
		{"a server of root", 0, 0, 0, true},
		{"a server of root on a user's store", 0, 1001, 0, true},
		{"a server of root, asked by a user", 0, 0, 1001, true},
		{"a server of root without a store", 0, -1, 0, true},
		{"a member of the group", 1003, 1001, 1001, false},
		{"a member of the group, asked by root", 1003, 1001, 0, false},
		{"a member of the group who replaced the store", 1003, 1003, 1001, false},
		{"the user, but the store was replaced", 1001, 1003, 1001, false},
		{"a member of the group, root's store", 1003, 0, 0, false},
		{"without a store", 1003, -1, 0, false},
		{"without a store, asked by the user", 1001, -1, 1001, false},
	} {
		if got := isServer(tt.listener, tt.owner, tt.us); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
