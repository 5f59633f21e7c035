"""What is thrown at the door, as data, and what plays it: against any server that is said to be one of ours."""
