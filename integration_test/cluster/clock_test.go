package cluster

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// shiftClock makes the wall clock of a process differ from that of the machine. The process must have been started with
// SysProcAttr.Ptrace by the thread that calls this, and stands at its first instruction. It runs when shiftClock returns.
//
// A program in Go asks the kernel's page of functions, the vDSO, for the time, and no library. So that function is written over in
// the memory of that process, with one that asks the kernel and adds the seconds. A namespace of time would not do:
// it has no wall clock of its own.
func shiftClock(pid int, by time.Duration) (err error) {
	if runtime.GOARCH != "amd64" {
		return errors.New("the clock of a process can be shifted on amd64 only")
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.PtraceDetach(pid)) }()
	if !status.Stopped() {
		return fmt.Errorf("the process did not stop: %v", status)
	}
	base, end, err := vdso(pid)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	image := make([]byte, end-base)
	if _, err := memory.ReadAt(image, base); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	code := []byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, 228: clock_gettime(edi, rsi)
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x07, // jne over the next one, unless the clock is CLOCK_REALTIME, which is 0
		0x48, 0x81, 0x06, // add qword [rsi], the seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(int32(by/time.Second)))
	code = append(code, 0xc3) // ret
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(code)) {
			_, err := memory.WriteAt(code, base+int64(s.Value))
			return err
		}
	}
	return fmt.Errorf("there is no place for the function among %+v", symbols)
}

// vdso returns where the kernel's functions are in the memory of a process.
func vdso(pid int) (begin, end int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			_, err := fmt.Sscanf(line, "%x-%x ", &begin, &end)
			return begin, end, err
		}
	}
	return 0, 0, errors.New("the process has no vDSO")
}
