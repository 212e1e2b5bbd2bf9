package diagnose

import "testing"

// TestDoctorAdvisesToCompact a big store of which more than half is free, and no other.
func TestDoctorAdvisesToCompact(t *testing.T) {
	for _, tt := range []struct {
		free, size int64
		want       string
	}{
		{0, 1 << 30, "1073741824 bytes"},
		{1 << 29, 1 << 30, "1073741824 bytes"},
		{1<<29 + 1, 1 << 30, "1073741824 bytes, 536870913 of them in free pages: keymill compact gives them back"},
		{bigStore - 10, bigStore - 1, "67108863 bytes"},
	} {
		if got := sizeWords(tt.free, tt.size); got != tt.want {
			t.Errorf("%d of %d: %q, want %q", tt.free, tt.size, got, tt.want)
		}
	}
}
