"""Champion against challenger: metrics, paired bootstrap, baselines, the policy. Uses evidence; knows no store."""
