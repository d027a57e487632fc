# A project for trying things out: sleeps without calls, can be erased. project_id is given on the command line.
scaling             = { min_instances = 0, max_instances = 3 }
companion           = { max_instances = 2 }
deletion_protection = false
limits              = "1000/minute,10000/hour,100000/day"

# Change it: without an address each plan warns.
alert_email = null
