package main

import (
	"math"
	"slices"
	"time"
)

// median returns the median of numbers, or 0 if there are none.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianWithin returns the 95 % confidence interval of the median that the numbers are a sample of. It supposes nothing
// of their distribution: of n numbers about n/2 ± √n/2 are below the median (binomial distribution), and two of these
// standard deviations are 95 %. Of fewer than eight numbers it is the lowest and the highest.
func medianWithin(numbers []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(numbers))
	n := len(sorted)
	below := max(0, int((float64(n)-2*math.Sqrt(float64(n)))/2))
	return sorted[below], sorted[n-1-below]
}

// percentile returns the lowest latency that the share p of all did not exceed.
func percentile(latencies []time.Duration, p float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(latencies))
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// quantile returns the lowest of numbers that the share p of all do not exceed. Of a hundred
// short slices a few are always slow, because the machine does something else.
func quantile(numbers []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(numbers))
	return sorted[max(int(math.Ceil(p*float64(len(sorted)))), 1)-1]
}

// quotients divides each number of a by the one of b.
func quotients(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return out
}
