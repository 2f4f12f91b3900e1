"""S3 and what speaks its protocol. Imported only for a job that names an s3:// address: boto3 takes half a second to load."""
