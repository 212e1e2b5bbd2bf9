package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/api"
)

// nodes shows the servers that share the store, as the one that answers sees them.
func (s *site) nodes(r *request) (*page, error) {
	list, err := get[api.Nodes](r, s, "nodes", nil)
	t := table{
		Caption: "Servers of the store", Titled: true, Empty: "The server has its store alone.",
		Columns: []string{"Node", "State", "Host", "Version", "Started", "Last heartbeat", "Clock", "Keys", "Data key", "Jobs"},
	}
	for _, n := range list.Nodes {
		t.Rows = append(t.Rows, []cell{
			nodeID(list, n), nodeState(n), words(n.Host), words(n.Version), instant(&n.Started, r.now), instant(&n.Beat, r.now), clockOffset(n.ClockOffset),
			nodeKeys(list, n), {Text: strconv.Itoa(n.Generation)}, jobs(list, n.ID),
		})
	}
	return &page{Title: "Nodes", Template: "list", Body: listBody{Table: t}, Command: s.command("node", "list"), Live: true}, err
}

func nodeID(list api.Nodes, n api.Node) cell {
	c := id(n.ID)
	if n.ID == list.Node {
		c.Hint = "answers this page"
	}
	return c
}

func nodeState(n api.Node) cell {
	if n.Live {
		return state("good", "live")
	}
	return state("bad", "missing")
}

// badOffset is how far a clock may be off before the page and the alarm say so.
const badOffset = 30 * time.Second

// clockOffset shows by how much a clock is ahead of that of the server that answers.
func clockOffset(text string) cell {
	d, err := time.ParseDuration(text)
	switch {
	case text == "":
		return cell{Text: "not known", Kind: "dull"}
	case err != nil:
		return words(text)
	case d.Abs() > badOffset:
		return state("bad", "off by "+text)
	}
	return cell{Text: text}
}

// nodeKeys shows the version of the signing keys. Another live node can have read a later one.
func nodeKeys(list api.Nodes, n api.Node) cell {
	c := cell{Text: strconv.FormatUint(n.Keys, 10)}
	if slices.ContainsFunc(list.Nodes, func(other api.Node) bool { return other.Live && other.Keys > n.Keys }) {
		c.Hint = "not the newest"
	}
	return c
}

// jobs lists what one node does for all.
func jobs(list api.Nodes, id string) cell {
	var names []string
	for _, l := range list.Leases {
		if l.Node == id {
			names = append(names, l.Name)
		}
	}
	if names == nil {
		return none()
	}
	return cell{Text: whole(strings.Join(names, ", ")), Kind: "long"}
}

// nodeFacts says which server of a shared store the overview is about. It returns nothing for a server that has its
// store alone.
func (s *site) nodeFacts(r *request) ([]fact, error) {
	list, err := get[api.Nodes](r, s, "nodes", nil)
	if _, is := missingScope(err); is || err == nil && !list.Shared {
		return nil, nil
	}
	live := 0
	for _, n := range list.Nodes {
		if n.Live {
			live++
		}
	}
	c := cell{Text: fmt.Sprintf("%d live", live), Href: r.to("nodes")}
	if missing := len(list.Nodes) - live; missing > 0 {
		c.Kind, c.Text = "bad", fmt.Sprintf("%d live, %d missing", live, missing)
	}
	return []fact{{"Node", id(list.Node)}, {"Servers of the store", c}}, err
}
