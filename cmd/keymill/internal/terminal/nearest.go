package terminal

import "strings"

// Nearest returns the candidate that the user probably meant by word, or "".
func Nearest(word string, candidates []string) string {
	best, found := 1+min(max(2, len(word)/3), len(word)-1), ""
	for _, c := range candidates {
		if strings.HasPrefix(c, word) && len(word) > 1 || strings.HasSuffix(c, "."+word) {
			return c
		}
		if d := distance(word, c); d < best {
			best, found = d, c
		}
	}
	return found
}

// distance counts the insertions, deletions and replacements that turn a into b
// (Levenshtein). It keeps one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
