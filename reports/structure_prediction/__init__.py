"""Crystal structure prediction: match rates by k and by the device time spent."""
