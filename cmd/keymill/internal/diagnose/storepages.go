package diagnose

import (
	"context"
	"fmt"
	"os"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/bolt"
)

// CheckStorePages checks the pages of a store that no process writes, as a Doctor does. program is this program,
// which is run again. report gets the share that was read, in percent.
func CheckStorePages(ctx context.Context, program, path string, report func(percent int)) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	d := &Doctor{Program: program, report: report}
	return d.checkPages(ctx, path, info.Size())
}

// bigStore is the size below which free pages are not worth a stop of the server.
const bigStore = 64 << 20

// sizeText says how large the file of a store is, and that compacting it is worth while.
func sizeText(path string, size int64) string {
	free, _, err := bolt.FreeBytes(path)
	if err != nil {
		free = 0 // the checks of the pages say what is wrong
	}
	return sizeWords(free, size)
}

func sizeWords(free, size int64) string {
	text := terminal.Count(size, "byte")
	if size >= bigStore && free > size/2 {
		text += fmt.Sprintf(", %d of them in free pages: keymill compact gives them back", free)
	}
	return text
}
