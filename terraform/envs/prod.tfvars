# A project with callers: no cold start for the first of them, and data that a destroy keeps.
# project_id is given on the command line.
scaling             = { min_instances = 1, max_instances = 100 }
companion           = { max_instances = 20 }
deletion_protection = true
availability_goal   = 0.999

# Change these.
alert_email = null
# domain        = "gateway.example.com"
# budget        = { billing_account = "012345-6789AB-CDEF01", amount = 500 }
# invoker_check = "disabled"
