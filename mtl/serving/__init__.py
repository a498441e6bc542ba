"""Running a finished pipeline: how fast it is, where its time goes, and which precision serves best."""
