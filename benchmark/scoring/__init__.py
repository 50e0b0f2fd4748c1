"""From a source to a result: samples are counted, in a run folder that resumes."""
